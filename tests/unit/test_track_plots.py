"""The pictures show the tracks and scores of the numbers, and say so where there are none."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt

from geolib import pack_tracks, student_t_interval, track_plots

mpl.use("agg")
RNG = np.random.default_rng(0)
LABELS = [0, 0, 1, 4]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def paths():
    return RNG.normal(size=(4, len(LABELS), 2))


def text_of(figure) -> str:
    return "\n".join(t.get_text() for t in figure.findobj(mpl.text.Text))


def tracks_numbers():
    runs = [
        {"kind": kind, "weight_decay": decay, "seed": seed, "walk_lss": 3.25, "walk_ots": 0.75}
        | {"lss": 1 + 2 * decay + seed / 100, "ots": 0.5, "dead": False, "diverged": False}
        for kind, decay in (("resnet", 0.0), ("resnet", 0.125), ("plain", 0.125))
        for seed in (1, 3)
    ]
    panels = [
        {"state": state, "kind": kind, "weight_decay": decay, "variance_explained": share}
        | {"tracks": pack_tracks(paths())}
        for state, kind, decay, share in (
            ("trained", "resnet", 0.0, 0.11), ("trained", "resnet", 0.125, 0.22), ("trained", "plain", 0.125, 0.33),
            ("untrained", "resnet", None, 0.44), ("walk", "resnet", 0.125, 0.55),
        )
    ]  # fmt: skip
    untrained = [
        {"kind": kind, "seed": seed, "lss": 9.5, "ots": 0.25} for kind in ("resnet", "plain") for seed in (1, 3)
    ]
    return {"best": {"resnet": 0.125}, "runs": runs, "untrained": untrained, "labels": LABELS, "panels": panels}


def test_tracks_are_drawn_as_given_each_class_in_one_colour():
    given = paths()
    _, ax = plt.subplots()
    track_plots.plot_tracks(ax, given, LABELS)
    drawn = [line.get_xydata() for line in ax.lines]
    assert drawn == [pytest.approx(given[:, i]) for i in range(4)]
    colours = [line.get_color() for line in ax.lines]
    assert colours[0] == colours[1]
    assert len(set(colours)) == 3
    assert [text.get_text() for text in ax.texts] == ["0", "1", "4"]
    assert ax.texts[0].get_position() == pytest.approx(given[-1, :2].mean(0))
    assert ax.get_aspect() == 1


def test_every_panel_has_its_scores_interval_and_share_of_variance():
    figure = track_plots.tracks_figure(tracks_numbers())
    titles = [ax.get_title() for sub in figure.subfigs for ax in sub.axes]
    half = student_t_interval([1.26, 1.28]).high - 1.27
    assert titles[0].splitlines()[1:] == [f"LSS 1.27 ± {half:.2f}, OTS 0.50 ± 0.00", "22% of variance"]
    by_name = {title.splitlines()[0]: title for title in titles}
    assert "LSS 9.50" in by_name["ResNet, untrained"]
    assert "44%" in by_name["ResNet, untrained"]
    assert "LSS 3.25 ± 0.00, OTS 0.75" in by_name["random walk, same starts and steps"]
    assert "33%" in by_name[r"plain network, $\gamma$ = 0.125"]
    assert [title.splitlines()[0] for title in titles[-2:]] == [r"ResNet, $\gamma$ = 0", r"ResNet, $\gamma$ = 0.125"]


def test_a_network_without_tracks_is_named_as_such():
    assert (
        text_of(track_plots.tracks_figure(tracks_numbers())).count("no tracks: this network") == 1
    )  # plain, untrained
    numbers = tracks_numbers()
    for run in numbers["runs"]:
        if run["kind"] == "plain":
            del run["lss"], run["ots"]
    numbers["panels"] = [panel for panel in numbers["panels"] if panel["kind"] != "plain"]
    assert text_of(track_plots.tracks_figure(numbers)).count("no tracks: this network") == 2


def training_numbers():
    course = [
        {"kind": kind, "weight_decay": decay, "seed": seed, "epoch": epoch, "walk_lss": 3.0, "walk_ots": 0.8}
        | {"lss": 2 - epoch / 10 + seed / 100, "ots": 0.9, "train_accuracy": 0.5, "test_accuracy": 0.4}
        for kind, decay in (("resnet", 0.5), ("plain", 0.5))
        for seed in (1, 2)
        for epoch in (0, 1, 2, 4)
    ]
    full = {"kind": "resnet", "weight_decay": 0.5, "seed": 1, "epochs": [0, 1, 2, 4]}
    full |= {"variance_explained": [0.1, 0.2, 0.3, 0.4], "tracks": [pack_tracks(paths()) for _ in range(4)]}
    lost = {"kind": "plain", "weight_decay": 0.5, "seed": 1}
    return {"moments": [1, 4], "course": course, "labels": LABELS, "pictures": [full, lost]}


def test_moments_stand_in_one_scale_with_the_drawn_networks_own_scores():
    figure = track_plots.training_figure(training_numbers())
    row = figure.axes[:3]
    assert [ax.get_title() for ax in row] == [
        "untrained\nLSS 2.01, OTS 0.90\n10% of variance",
        "epoch 1\nLSS 1.91, OTS 0.90\n20% of variance",
        "epoch 4\nLSS 1.61, OTS 0.90\n40% of variance",
    ]
    assert len({ax.get_xlim() for ax in row}) == len({ax.get_ylim() for ax in row}) == 1
    for ax in row:
        for line in ax.lines:
            assert (line.get_xydata() >= [ax.get_xlim()[0], ax.get_ylim()[0]]).all()
            assert (line.get_xydata() <= [ax.get_xlim()[1], ax.get_ylim()[1]]).all()
    assert text_of(figure).count("no tracks: this network") == 3


def test_curves_are_means_with_intervals_and_a_gap_where_a_run_has_no_value():
    numbers = training_numbers()
    plain = [record for record in numbers["course"] if record["kind"] == "plain"]
    del next(record for record in plain if record["epoch"] == 1)["lss"]
    numbers["course"].remove(next(record for record in plain if record["epoch"] == 2))  # as a diverged run leaves none
    figure = track_plots.training_curves(numbers)
    resnet, plain, walk = figure.axes[0].lines
    assert resnet.get_xdata().tolist() == [0, 1, 2, 4]
    assert resnet.get_ydata() == pytest.approx([2.015, 1.915, 1.815, 1.615])
    assert np.isnan(plain.get_ydata()).tolist() == [False, True, True, False]
    assert walk.get_ydata().tolist() == [3.0] * 4
    low = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1].min()
    assert low == pytest.approx(student_t_interval([1.61, 1.62]).low)
    assert [ax.get_ylabel() for ax in figure.axes] == ["LSS", "OTS", "training accuracy", "test accuracy"]


def test_the_player_gets_every_frame_with_its_scores():
    numbers = training_numbers()
    page = track_plots.training_player(numbers, numbers["pictures"][0])
    assert '{"name":"untrained","note":"LSS 2.01, OTS 0.90"}' in page
    assert '{"name":"epoch 4","note":"LSS 1.61, OTS 0.90"}' in page
    assert "Tracks of 4 test points during training, coloured by class: ResNet with weight decay 0.5" in page
