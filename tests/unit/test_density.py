"""Densities carried by velocity fields: closed forms, and the grid against the paths."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import geolib

RNG = np.random.default_rng(0)
ANGLE = 0.7
SHIFT = torch.tensor([0.8, -0.4], dtype=torch.float64)


def normal(x, centre=0.0, spread=1.0):
    square = (x - torch.tensor(centre, dtype=torch.float64)).square().sum(1)
    return -square / (2 * spread**2) - x.shape[1] * np.log(2 * np.pi * spread**2) / 2


def off_centre(x):
    return normal(x, (1.0, 0.0), 0.5)


def translation(x):
    return SHIFT.expand_as(x)


def rotation(x):
    return ANGLE * torch.stack([-x[:, 1], x[:, 0]], dim=1)


def contraction(x):
    return -0.5 * x


def swirl(x):
    return torch.stack([torch.tanh(x[:, 1]), 0.5 * torch.sin(x[:, 0])], dim=1)


def on(grid, log_density):
    return np.exp(log_density(torch.from_numpy(grid.centres.reshape(-1, 2))).numpy()).reshape(grid.cells, grid.cells)


def turned(x):
    back = torch.tensor([[np.cos(ANGLE), np.sin(ANGLE)], [-np.sin(ANGLE), np.cos(ANGLE)]])
    return off_centre(x @ back.T)


#: field -> logarithm of the density after one unit of time, from `off_centre`
EXACT = {
    translation: lambda x: off_centre(x - SHIFT),
    rotation: turned,
    contraction: lambda x: off_centre(x * np.exp(0.5)) + 2 * 0.5,
}


@pytest.mark.parametrize("field", EXACT)
def test_the_density_along_the_flow_has_its_closed_form(field):
    y = RNG.normal(size=(50, 2))
    expected = EXACT[field](torch.from_numpy(y)).numpy()
    np.testing.assert_allclose(geolib.flow_density([field], y, off_centre, 16), expected, atol=1e-5)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_a_contraction_makes_the_density_grow_at_a_rate_of_the_dimension(dim):
    x = np.zeros((1, dim))
    grown = geolib.flow_density([contraction, contraction], x, normal, 16) - normal(torch.from_numpy(x)).numpy()
    assert grown == pytest.approx(2 * 0.5 * dim, abs=1e-6)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_substeps_of_a_contraction_have_a_power_as_determinant(dim):
    x = RNG.normal(size=(4, dim))
    for s in (1, 4):
        carried = geolib.carry_density([contraction, contraction], x, normal, s)
        np.testing.assert_allclose(carried.points, x * (1 - 0.5 / s) ** (2 * s))
        np.testing.assert_allclose(carried.log_determinant, 2 * s * dim * np.log(1 - 0.5 / s))
        np.testing.assert_allclose(carried.log_density, normal(torch.from_numpy(x)).numpy() - carried.log_determinant)
        assert carried.smallest_determinant == pytest.approx((1 - 0.5 / s) ** dim)


def test_a_fold_shows_as_a_negative_determinant_that_substeps_cure():
    def folding(x):
        return torch.stack([-2 * torch.tanh(x[:, 0]), torch.zeros(len(x)).double()], dim=1)

    x = RNG.normal(size=(100, 2))
    assert geolib.carry_density([folding], x, normal, 1).smallest_determinant < 0
    assert geolib.carry_density([folding], x, normal, 4).smallest_determinant > 0


def test_the_substeps_tend_to_the_flow_as_one_over_their_number():
    x = RNG.normal(size=(200, 2))
    errors = []
    for s in (32, 64):
        carried = geolib.carry_density([swirl, contraction], x, off_centre, s)
        flow = geolib.flow_density([swirl, contraction], carried.points, off_centre, 32)
        errors.append(np.abs(np.exp(carried.log_density) - np.exp(flow)).mean())
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.15)


def test_fields_act_in_their_order():
    x = RNG.normal(size=(3, 2))
    carried = geolib.carry_density([translation, contraction], x, normal, 1)
    np.testing.assert_allclose(carried.points, 0.5 * (x + SHIFT.numpy()))
    y = torch.from_numpy(np.exp(-0.5) * (x + SHIFT.numpy()))
    expected = normal(torch.from_numpy(x)).numpy() + 1.0
    np.testing.assert_allclose(geolib.flow_density([translation, contraction], y, normal, 16), expected, atol=1e-5)


@pytest.mark.parametrize("function", [geolib.carry_density, geolib.flow_density])
def test_densities_refuse(function):
    with pytest.raises(ValueError, match="got none"):
        function([], np.ones((2, 2)), normal, 1)
    with pytest.raises(ValueError, match=r"shape \(m, d\), at least one point and dimension; got \(2,\)"):
        function([contraction], np.ones(2), normal, 1)
    with pytest.raises(ValueError, match="points must be finite; 4 values"):
        function([contraction], np.full((2, 2), np.nan), normal, 1)
    with pytest.raises(ValueError, match="whole number >= 1; got 0"):
        function([contraction], np.ones((2, 2)), normal, 0)


@pytest.mark.parametrize("function", [geolib.carry_density, geolib.flow_density])
@pytest.mark.parametrize(
    ("log_density", "words"),
    [
        (lambda x: normal(x)[:, None], r"shape \(3,\); got \(3, 1\)"),
        (lambda x: torch.tensor(0.0), r"got \(\)"),
        (lambda x: normal(x)[:1], r"got \(1,\)"),
        (lambda x: normal(x) * np.nan, "NaN or \\+inf at 3 of 3"),
        (lambda x: torch.tensor([0.0, np.inf, -np.inf]), "NaN or \\+inf at 1 of 3"),
    ],
)
def test_densities_refuse_a_start_that_is_none(function, log_density, words):
    with pytest.raises(ValueError, match=f"log_density must .*{words}"):
        function([contraction], np.ones((3, 2)), log_density, 1)


@pytest.mark.parametrize("function", [geolib.carry_density, geolib.flow_density])
def test_densities_refuse_a_blow_up_and_fields_of_another_shape(function):
    with pytest.raises(ValueError, match="finite numbers at 1 of 2 points"):
        function([lambda x: -x.pow(9)], [[1e40, 0.0], [0.0, 0.0]], lambda x: torch.zeros(len(x)), 1)
    with pytest.raises(ValueError, match=r"velocities of that shape; got \(1, 1\)"):
        function([lambda x: x[:, :1]], np.ones((2, 2)), normal, 1)


def test_where_there_is_no_mass_there_is_none_after():
    def uniform(x):
        return torch.where((x.abs() < 1).all(1), -2 * np.log(2.0), -np.inf)

    x = np.array([[0.5, 0.5], [2.0, 0.0]])
    np.testing.assert_allclose(geolib.carry_density([contraction], x, uniform, 1).log_density, [0, -np.inf], atol=1e-7)
    np.testing.assert_array_equal(geolib.flow_density([contraction], x, uniform, 4)[1], -np.inf)
    crushed = geolib.carry_density([lambda x: -x], x, uniform, 1).log_density
    np.testing.assert_array_equal(crushed, [np.inf, -np.inf])


@pytest.mark.parametrize("field", [*EXACT, swirl])
def test_the_grid_keeps_mass_to_rounding_and_no_density_is_negative(field):
    grid = geolib.Grid(3, 40)  # a part of the mass is pressed against the wall
    solution = geolib.solve_continuity([field] * 3, on(grid, off_centre), grid, frames=2, courant=0.5)
    mass = grid.mass(solution.densities)
    assert np.abs(mass / mass[0] - 1).max() < 1e-12
    assert solution.densities.min() >= 0
    np.testing.assert_allclose(solution.times, np.arange(7) / 2)
    assert solution.densities.shape == (7, 40, 40)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.2, 0.5))
def test_rough_densities_and_velocities_do_no_harm(seed, courant):
    rng = np.random.default_rng(seed)
    grid = geolib.Grid(1, 12)
    start = rng.exponential(size=(12, 12)) * (rng.random((12, 12)) < 0.3)
    a, b = torch.from_numpy(rng.normal(size=(2, 5, 2)))

    def rough(x):
        return torch.sign(torch.sin(5 * x @ a.T)) @ b

    solution = geolib.solve_continuity([rough], start, grid, courant=courant)
    assert solution.densities.min() >= 0
    assert grid.mass(solution.densities[-1]) == pytest.approx(grid.mass(start), rel=1e-12)


@pytest.mark.parametrize("field", EXACT)
def test_the_grid_converges_to_the_closed_form_at_second_order(field):
    errors = []
    for side in (64, 128):
        grid = geolib.Grid(4, side)
        solution = geolib.solve_continuity([field], on(grid, off_centre), grid)
        errors.append(grid.mass(np.abs(solution.densities[-1] - on(grid, EXACT[field]))))
    assert errors[1] < 0.03
    assert 1.7 < np.log2(errors[0] / errors[1]) < 2.5  # the limiter costs a little at the maximum


def test_a_constant_density_stays_under_a_field_without_divergence_that_respects_the_walls():
    def eddy(x):
        u, v = (torch.sin(np.pi * x[:, k]) for k in (0, 1))
        return torch.stack([u * torch.cos(np.pi * x[:, 1]), -torch.cos(np.pi * x[:, 0]) * v], dim=1)

    grid = geolib.Grid(1, 20)
    solution = geolib.solve_continuity([eddy], np.ones((20, 20)), grid)
    np.testing.assert_allclose(solution.densities[-1], 1, atol=1e-12)


def test_symmetries_of_the_square_pass_through():
    grid = geolib.Grid(3, 24)
    start = on(grid, off_centre)
    straight = geolib.solve_continuity([swirl], start, grid).densities[-1]

    def transposed(x):
        return swirl(x.flip(1)).flip(1)

    def mirrored(x):
        return swirl(x * torch.tensor([-1.0, 1.0])) * torch.tensor([-1.0, 1.0])

    def solved(field, density):
        return geolib.solve_continuity([field], density, grid).densities[-1]

    np.testing.assert_allclose(solved(transposed, start.T).T, straight, atol=1e-14)
    np.testing.assert_allclose(solved(mirrored, start[:, ::-1])[:, ::-1], straight, atol=1e-14)


def test_several_densities_move_as_each_alone():
    grid = geolib.Grid(3, 24)
    pair = np.stack([on(grid, off_centre), on(grid, normal)])
    both = geolib.solve_continuity([swirl], pair, grid)
    for k in (0, 1):
        np.testing.assert_array_equal(both.densities[:, k], geolib.solve_continuity([swirl], pair[k], grid).densities)
    assert grid.mass(both.densities).shape == (2, 2)


def test_smaller_time_steps_are_taken_for_smaller_courant_numbers_and_faster_fields():
    grid = geolib.Grid(2, 20)
    start = on(grid, normal)
    steps = [geolib.solve_continuity([translation], start, grid, courant=c).steps for c in (0.45, 0.225)]
    assert steps == [14, 27]  # (0.8 + 0.4) / 0.2 / courant
    assert geolib.solve_continuity([lambda x: 2 * translation(x)], start, grid, courant=0.45).steps == 27
    at_rest = geolib.solve_continuity([lambda x: 0 * x], start, grid, frames=3)
    assert at_rest.steps == 3
    np.testing.assert_array_equal(at_rest.densities[-1], start)


def test_the_cells_have_their_centres_and_width():
    grid = geolib.Grid(1, 4)
    assert grid.width == 0.5
    np.testing.assert_allclose(grid.centres[0, :, 0], [-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(grid.centres[:, 0, 1], [-0.75, -0.25, 0.25, 0.75])
    assert grid.mass(np.ones((4, 4))) == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fields": []}, "at least one velocity field; got none"),
        ({"frames": 0}, "frames counts .* whole number >= 1; got 0"),
        ({"frames": 1.5}, "frames counts .* whole number >= 1; got 1.5"),
        ({"frames": True}, "got True"),
        ({"courant": 0.6}, r"\(0, 1/2\], or densities may become negative; got 0.6"),
        ({"courant": 0}, "got 0"),
        ({"density": np.ones((4, 5))}, r"shape \(\.\.\., 5, 5\); got \(4, 5\)"),
        ({"density": np.ones(5)}, r"got \(5,\)"),
        ({"density": -np.ones((5, 5))}, "nowhere negative; the smallest cell holds -1.0"),
        ({"density": np.full((5, 5), np.nan)}, "finite; 25 cells"),
        ({"fields": [lambda x: x * np.nan]}, "finite on the whole grid"),
        ({"fields": [lambda x: x[:, :1]]}, r"two components at each place, shape \(20, 2\); got \(20, 1\)"),
        ({"fields": [lambda x: torch.cat([x, x], 1)]}, r"got \(20, 4\)"),
        (
            {"fields": geolib.velocity_fields(geolib.ResNet(3, 2, width=3, blocks=1))},
            r"a field that takes points of shape \(20, 2\); this one does not",
        ),
    ],
)
def test_the_solver_refuses(changes, words):
    settled = {"fields": [contraction], "density": np.ones((5, 5)), "grid": geolib.Grid(1, 5)}
    with pytest.raises(ValueError, match=words):
        geolib.solve_continuity(**{**settled, **changes})


@pytest.mark.parametrize(
    ("half_width", "cells", "words"),
    [
        (0, 5, "finite and > 0; got 0"),
        (np.inf, 5, "finite and > 0; got inf"),
        (1, 2, "whole number >= 3; got 2"),
        (1, 8.5, "whole number >= 3; got 8.5"),  # would lie off the centre
        (1, True, "got True"),
    ],
)
def test_a_grid_refuses(half_width, cells, words):
    with pytest.raises(ValueError, match=words):
        geolib.Grid(half_width, cells)


@pytest.mark.parametrize("density", [np.ones((4, 5)), np.ones(4), 1.0])
def test_mass_is_that_of_the_whole_grid(density):
    with pytest.raises(ValueError, match=r"shape \(\.\.\., 4, 4\); got"):
        geolib.Grid(1, 4).mass(density)
