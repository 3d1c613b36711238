"""The players are complete in themselves, hold what they were given, and let nothing out of their script."""

import base64
import io
import json
import re

import numpy as np
import pytest
from bs4 import BeautifulSoup
from matplotlib import image

from geolib.player import picture_player, track_player

RNG = np.random.default_rng(0)
TRACKS = RNG.normal(size=(3, 5, 4, 2)) * [2, 1]  # frames, layers + 1, points, 2
LABELS = [7, 7, 2, 0]
FRAMES = ["untrained", "epoch 1", "epoch 2"]


def player(**changes):
    given = {"tracks": TRACKS, "labels": LABELS, "frames": FRAMES, "title": "Tracks", **changes}
    return track_player(**given)


def content(page):
    soup = BeautifulSoup(page, "html.parser")
    return json.loads(soup.find("script", type="application/json").string)


def test_nothing_comes_from_outside():
    soup = BeautifulSoup(player(), "html.parser")
    assert not soup.find_all(["link", "img", "iframe", "object", "embed", "base", "meta"])
    assert not soup.find_all(attrs={"src": True}) + soup.find_all(attrs={"href": True})
    assert not re.search(r"https?:|//\w|url\(|@import|import\(|fetch\(|XMLHttpRequest|eval\(", player())


def test_it_can_be_used_without_a_pointer_or_sight():
    soup = BeautifulSoup(player(title="Tracks of four points"), "html.parser")
    figure, svg, slider, button = (soup.find(tag) for tag in ("figure", "svg", "input", "button"))
    assert figure["aria-label"] == svg["aria-label"] == "Tracks of four points"
    assert svg["role"] == "img"
    assert (slider["type"], slider["min"], slider["max"]) == ("range", "0", "2")
    assert slider.parent.name == "label"
    assert slider.parent.get_text(strip=True)
    assert button["type"] == "button"
    assert button.get_text()
    assert soup.find("noscript").get_text()
    assert "prefers-reduced-motion" in player()


def test_all_frames_share_one_undistorted_scale_with_the_second_axis_up():
    data = content(player())
    paths = np.array(data["paths"])  # frame, point, layer, 2
    assert paths.shape == (3, 4, 5, 2)
    given = TRACKS.swapaxes(1, 2)
    scale = np.ptp(paths[..., 0]) / np.ptp(given[..., 0])
    shift = paths[0, 0, 0] - scale * given[0, 0, 0] * [1, -1]
    assert paths == pytest.approx(scale * given * [1, -1] + shift, abs=0.2)  # rounded to a tenth
    assert paths.min() >= 0
    assert (paths.max((0, 1, 2)) <= [800, 600]).all()


def test_classes_names_and_notes_are_those_given():
    data = content(player(notes=["a", "b", "c"]))
    assert data["classes"] == ["0", "2", "7"]
    assert data["class"] == [2, 2, 1, 0]
    assert len(set(data["colours"])) == 3
    assert data["frames"] == [{"name": name, "note": note} for name, note in zip(FRAMES, "abc", strict=True)]
    assert len(content(player(labels=list("cbad")))["classes"]) == 4


def test_nothing_breaks_out_of_the_script_or_an_attribute():
    evil = '</script><!-- <script>"&amp;\u2028${KEY}$'
    page = player(frames=[evil] * 3, notes=[evil] * 3, title='" onload="x" ' + evil, labels=[evil, "a", "b", "c"])
    soup = BeautifulSoup(page, "html.parser")
    assert len(soup.find_all("script")) == 2
    assert page.count("<!--") == 0
    assert page.count("</script>") == 2
    assert content(page)["frames"][0] == {"name": evil, "note": evil}
    assert evil in content(page)["classes"]
    assert soup.find("figure")["aria-label"] == '" onload="x" ' + evil
    assert not soup.find_all(attrs={"onload": True})


def test_players_are_told_apart_by_what_they_show_and_written_alike_each_time():
    keys = [
        BeautifulSoup(page, "html.parser").find("figure")["data-player"]
        for page in (player(), player(), player(tracks=TRACKS * [1, 2]))
    ]
    assert keys[0] == keys[1] != keys[2]
    assert not BeautifulSoup(player(), "html.parser").find_all(id=True)


def test_a_single_point_that_stays_is_drawn_too():
    assert np.isfinite(content(player(tracks=np.ones((3, 5, 4, 2))))["paths"]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tracks": TRACKS[0]}, r"shape \(frames, layers \+ 1, points, 2\); got \(5, 4, 2\)"),
        ({"tracks": TRACKS * np.nan}, "finite tracks"),
        ({"frames": FRAMES[:2]}, "3 frames and 4 points .* got 2 names, 3 notes"),
        ({"labels": [1, 2]}, "2 labels"),
        ({"notes": ["a"]}, "1 notes"),
    ],
)
def test_refuses_what_does_not_match(changes, message):
    if "frames" in changes:
        changes["notes"] = ["", "", ""]
    with pytest.raises(ValueError, match=message):
        player(**changes)


PICTURES = np.round(255 * RNG.random((3, 6, 4, 3))) / 255


def pictures(**changes):
    given = {"images": PICTURES, "frames": FRAMES, "title": "Pictures", **changes}
    return picture_player(**given)


def decoded(url):
    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    return image.imread(io.BytesIO(base64.b64decode(data)))[..., :3]


def test_pictures_are_kept_without_loss_and_the_last_is_there_without_a_script():
    page = pictures(notes=["a", "b", "c"])
    data = content(page)
    for given, url in zip(PICTURES, data["images"], strict=True):
        np.testing.assert_allclose(decoded(url), given, atol=1e-6)
    assert data["frames"] == [{"name": name, "note": note} for name, note in zip(FRAMES, "abc", strict=True)]
    shown = BeautifulSoup(page, "html.parser").find("img")
    assert shown["src"] == data["images"][-1]
    assert (shown["width"], shown["height"]) == ("4", "6")


def test_pictures_share_the_controls_and_the_script_of_tracks():
    def shared(page):
        soup = BeautifulSoup(page, "html.parser")
        key = soup.find("figure")["data-player"]
        parts = [soup.find("style"), soup.find("button"), soup.find("label"), soup.find("output"), soup("script")[1]]
        return [str(part).replace(key, "") for part in parts]

    assert shared(pictures()) == shared(player())


def test_pictures_bring_nothing_from_outside_and_can_be_used_without_sight():
    page = pictures(title='" onload="x" </script>')
    soup = BeautifulSoup(page, "html.parser")
    assert soup.find("figure")["class"] == ["picture-player"]
    assert soup.find("figure")["aria-label"] == soup.find("img")["alt"] == '" onload="x" </script>'
    assert not soup.find_all(attrs={"onload": True})
    assert not soup.find_all(["link", "iframe", "object", "embed", "base", "meta", "svg"])
    assert [tag["src"][:22] for tag in soup.find_all(attrs={"src": True})] == ["data:image/png;base64,"]
    outside = re.sub(r"base64,[A-Za-z0-9+/=]*", "", page)
    assert not re.search(r"https?:|//\w|url\(|@import|import\(|fetch\(|XMLHttpRequest|eval\(", outside)


def test_pictures_keep_their_colours_on_a_dark_page_and_show_their_caption():
    soup = BeautifulSoup(pictures(caption="from -4 to 4 & <b>"), "html.parser")
    assert "dark-light" in soup.find("img")["class"]
    assert soup.find(class_="caption").get_text() == "from -4 to 4 & <b>"
    assert not soup.find("b")
    assert not BeautifulSoup(pictures(), "html.parser").find(class_="caption")


def test_pictures_are_written_alike_each_time_and_told_apart():
    assert pictures() == pictures()
    keys = [re.search('data-player="([^"]*)"', page)[1] for page in (pictures(), pictures(images=1 - PICTURES))]
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, r"got \[\]"),
        ({"images": PICTURES[..., 0]}, r"\(height, width, 3\); got \[\(6, 4\)\]"),
        ({"images": [PICTURES[0], PICTURES[1], PICTURES[2][:5]]}, "one shape"),
        ({"images": PICTURES * 2}, r"in \[0, 1\]"),
        ({"images": PICTURES * np.nan}, r"in \[0, 1\]"),
        ({"frames": FRAMES[:2]}, "3 pictures .* got 2 names, 2 notes"),
        ({"notes": ["a"]}, "got 3 names, 1 notes"),
    ],
)
def test_pictures_refuse_what_does_not_match(changes, message):
    with pytest.raises(ValueError, match=message):
        pictures(**changes)
