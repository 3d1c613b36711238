"""The animations in a reader's browser: on the page, and saved on their own."""

import json
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).parents[2]
PAGE = "book/figures/training.html"
PAGES = {"track": PAGE, "picture": "book/theory/continuity.html"}


@pytest.fixture
def emulate(browser):
    """Run commands of the browser's developer tools, and undo them afterwards."""
    yield browser.execute_cdp_cmd
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture(params=PAGES)
def kind(request) -> str:
    return request.param


@pytest.fixture
def saved(site, tmp_path, kind) -> str:
    """The player twice in a page of its own, opened from a file."""
    text = (site / PAGES[kind]).read_text("utf-8")
    start, end = text.index(f'<figure class="{kind}-player"'), text.index("</script>\n</figure>")
    page = tmp_path / "saved.html"
    body = 2 * (text[start:end] + "</script>\n</figure>\n")
    page.write_text(f"<!DOCTYPE html><html lang='en'><title>saved</title><meta charset='utf-8'>{body}</html>", "utf-8")
    return page.as_uri()


@pytest.fixture(scope="module")
def numbers() -> dict:
    return json.loads((ROOT / "_build/smoke/results/figures/training.json").read_text("utf-8"))["numbers"]


def parts(browser, which=0):
    root = browser.find_elements(By.CSS_SELECTOR, "figure[data-player]")[which]
    return root, *(root.find_element(By.TAG_NAME, tag) for tag in ("input", "button", "output"))


def drawing(root) -> list[str]:
    """What a player shows: its paths, or its picture."""
    pictures = root.find_elements(By.CSS_SELECTOR, "img.drawing")
    if pictures:
        return [pictures[0].get_property("src")]
    return [path.get_attribute("d") for path in root.find_elements(By.TAG_NAME, "path")]


def test_scrubbing_with_the_keyboard_changes_drawing_and_label(browser, address, numbers):
    browser.get(f"{address}/{PAGE}")
    root, slider, _, label = parts(browser)
    epochs = numbers["pictures"][0]["epochs"]
    shown, drawn = [], []
    slider.send_keys(Keys.HOME)
    for _ in epochs:
        shown.append(label.text)
        drawn.append(tuple(drawing(root)))
        assert slider.get_attribute("aria-valuetext") == label.text
        slider.send_keys(Keys.ARROW_RIGHT)
    names = [text.partition(":")[0] for text in shown]
    assert names == ["untrained", *(f"epoch {epoch}" for epoch in epochs[1:])]
    assert len(set(drawn)) == len(epochs)
    assert len(drawn[0]) == len(numbers["labels"])
    own = next(r for r in numbers["course"] if r["epoch"] == 0 and r["weight_decay"] > 0 and r["kind"] == "resnet")
    assert shown[0] == f"untrained: LSS {own['lss']:.2f}, OTS {own['ots']:.2f}"
    slider.send_keys(Keys.HOME)
    assert tuple(drawing(root)) == drawn[0]
    slider.send_keys(Keys.END)
    assert label.text == shown[-1]


def test_every_picture_is_shown_under_its_name_and_the_last_without_a_script(browser, address, site):
    browser.get(f"{address}/{PAGES['picture']}")
    root, slider, _, label = parts(browser)
    source = BeautifulSoup((site / PAGES["picture"]).read_text("utf-8"), "html.parser").select_one("img.drawing")
    assert drawing(root) == [source["src"]]
    slider.send_keys(Keys.HOME)
    shown = []
    for _ in range(int(slider.get_property("max")) + 1):
        assert slider.get_attribute("aria-valuetext") == label.text
        shown.append((label.text, *drawing(root)))
        slider.send_keys(Keys.ARROW_RIGHT)
    assert shown[0][0] == "start: t = 0"
    assert len({name for name, _ in shown}) == len({picture for _, picture in shown}) == len(shown)
    assert shown[-1][1] == source["src"]
    picture = root.find_element(By.TAG_NAME, "img")
    assert picture.get_property("naturalWidth") == int(picture.get_dom_attribute("width"))  # it could be decoded
    assert sum(len(picture) for _, picture in shown) < 400_000


def test_a_picture_has_its_own_colours_and_a_scale_on_a_dark_page_too(browser, address):
    browser.get(f"{address}/{PAGES['picture']}")
    browser.execute_script("document.documentElement.dataset.theme = 'dark'")
    root, *_ = parts(browser)
    picture = root.find_element(By.TAG_NAME, "img")
    assert picture.value_of_css_property("filter") == "none"
    assert picture.value_of_css_property("padding") == "0px"
    assert "\N{MINUS SIGN}4 to 4" in root.find_element(By.CLASS_NAME, "caption").text


def test_dragging_the_slider_changes_the_drawing(browser, address, kind):
    browser.get(f"{address}/{PAGES[kind]}")
    root, slider, _, label = parts(browser)
    before = drawing(root), label.text
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", slider)
    slider.click()  # in its middle
    assert (drawing(root), label.text) != before
    assert 0 < int(slider.get_property("value")) < int(slider.get_property("max"))


def test_it_plays_to_the_end_on_a_click_and_can_be_paused(browser, saved):
    browser.get(saved)
    _, slider, button, label = parts(browser)
    assert button.text == "Play"
    slider.send_keys(Keys.HOME)
    button.click()
    assert button.text == "Pause"
    WebDriverWait(browser, 10).until(lambda _: int(slider.get_property("value")) >= 2)
    button.click()
    paused = label.text
    assert button.text == "Play"
    button.send_keys(Keys.SPACE)  # and on from there, by the keyboard
    WebDriverWait(browser, 20).until(lambda _: button.text == "Play")
    assert slider.get_property("value") == slider.get_property("max")
    assert label.text != paused


def test_reduced_motion_turns_playing_into_single_steps(browser, saved, emulate):
    emulate("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]})
    browser.get(saved)
    _, slider, button, _ = parts(browser)
    assert button.text == "Next"
    slider.send_keys(Keys.HOME)
    button.click()
    browser.execute_async_script("setTimeout(arguments[0], 800)")
    assert slider.get_property("value") == "1"
    assert button.text == "Next"


def test_a_saved_copy_asks_for_nothing_and_two_players_do_not_disturb_each_other(browser, saved):
    browser.get(saved)
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    first, slider, _, _ = parts(browser, 0)
    second, *_, label = parts(browser, 1)
    before = drawing(second), label.text
    slider.send_keys(Keys.HOME)
    assert drawing(first) != drawing(second)
    assert (drawing(second), label.text) == before
    assert not [entry for entry in browser.get_log("browser") if saved in entry["message"]]


@pytest.mark.parametrize("width", [320, 800])
def test_it_fits_a_telephone_and_fills_a_page(browser, saved, emulate, width, kind):
    emulate(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    browser.get(saved)
    root, slider, button, label = parts(browser)
    for element in (root, root.find_element(By.CLASS_NAME, "drawing"), slider, button, label):
        assert element.rect["x"] >= 0
        assert element.rect["x"] + element.rect["width"] <= width
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    drawn = root.find_element(By.CLASS_NAME, "drawing").rect
    assert drawn["width"] > 0.7 * min(width, {"track": 800, "picture": 520}[kind])
    assert drawn["height"] == pytest.approx({"track": 0.75, "picture": 1}[kind] * drawn["width"], abs=3)


@pytest.mark.parametrize("colour", ["rgb(240, 240, 240)", "rgb(20, 20, 20)"])
def test_its_text_takes_the_colour_of_the_page(browser, saved, colour, kind):
    browser.get(saved)
    browser.execute_script("document.body.style.color = arguments[0]", colour)
    root, *_, label = parts(browser)
    if kind == "track":
        assert root.find_element(By.TAG_NAME, "text").value_of_css_property("fill") == colour
    assert label.value_of_css_property("color") in (colour, colour.replace("rgb", "rgba").replace(")", ", 1)"))
