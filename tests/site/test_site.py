"""The built site, as files and as a reader's browser shows it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from geolib import ledger_table
from geolib.chapters import chapter_names, find_chapter, pages, scale_values

ROOT = Path(__file__).parents[2]
PAGES = pages(ROOT)
#: Pictures on pages of the smoke site, without those of recorded results.
PICTURES = [
    ("index", 1), ("theory/continuity", 4), ("theory/geodesics", 5), ("theory/weight_decay", 9),
    ("theory/track_distance", 6), ("figures/resnet_vs_plain", 1), ("figures/tracks", 1), ("figures/training", 2),
    ("figures/optimisation", 1), ("deviations", 1),
]  # fmt: skip

#: What needs a proof, among the boxes of sphinx-proof.
STATEMENTS = {"theorem", "lemma", "proposition", "corollary"}


def parsed(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


def await_page(browser, title: str) -> None:
    """Wait until the page with this heading is shown: a click returns before the next page is there."""

    def shown(window) -> bool:
        return any(h1.text.startswith(title) for h1 in window.find_elements(By.CSS_SELECTOR, "article h1"))

    WebDriverWait(browser, 20, ignored_exceptions=[StaleElementReferenceException]).until(shown)


@pytest.mark.parametrize("page", PAGES)
def test_no_formula_is_left_as_source(site, page):
    article = parsed(site / "book" / f"{page}.html").find("article")
    for element in article.select("pre, code, script, .math"):
        element.decompose()
    left = re.findall(r"\$[^$\n]+\$|\\(?:lvert|lVert|int|sum|mathbb|frac)\b.{0,40}", article.get_text())
    assert not left


@pytest.mark.parametrize("page", PAGES)
def test_every_page_of_the_contents_is_there_without_leftovers(site, page):
    soup = parsed(site / "book" / f"{page}.html")
    text = soup.find("article").get_text()
    assert soup.find("h1") is not None
    assert not soup.select(".output.traceback, .problematic, .system-message")
    assert "Traceback (most recent call last)" not in text
    assert not re.search(r"\{(cite|doc|ref|eq)\}`|:::", text)


def test_every_internal_link_anchor_and_file_resolves(site):
    broken = []
    for path in [path for path in site.rglob("*.html") if "_static" not in path.parts]:
        soup = parsed(path)
        for tag, attribute in (("a", "href"), ("img", "src"), ("link", "href"), ("script", "src")):
            for element in soup.find_all(tag, **{attribute: True}):
                url = urlsplit(element[attribute])
                if url.scheme or url.netloc:
                    continue
                target = (path.parent / unquote(url.path)).resolve() if url.path else path
                if not target.exists():
                    broken.append(f"{path.relative_to(site)}: {element[attribute]}")
                elif url.fragment and target.suffix == ".html":
                    there = parsed(target)
                    if not there.find(id=url.fragment) and not there.find(attrs={"name": url.fragment}):
                        broken.append(f"{path.relative_to(site)}: no anchor {element[attribute]}")
    assert not broken


def test_every_citation_leads_to_its_entry(site):
    soup = parsed(site / "book" / "index.html")
    cited = [a["href"] for a in soup.select("article a.reference.internal") if "references.html#" in a["href"]]
    assert len(cited) >= 3
    entries = {entry["id"] for entry in parsed(site / "book" / "references.html").select("[id]")}
    assert all(href.partition("#")[2] in entries for href in cited)


THEORY = [page for page in PAGES if page.startswith("theory/")]


@pytest.mark.parametrize("page", [page for page in THEORY if page in chapter_names(ROOT)])
def test_every_statement_is_proved_or_says_who_proved_it(site, page):
    found = parsed(site / "book" / f"{page}.html").select("article div.proof")
    kinds = [set(box["class"]) - {"proof", "admonition"} for box in found]  # a proof itself has no more
    stated = [number for number, kind in enumerate(kinds) if kind & STATEMENTS]
    assert len(stated) >= 2
    for number in stated:
        proved = kinds[number + 1 : number + 2] == [set()] or found[number].select_one("a[href*='references.html#']")
        assert proved, found[number].select_one(".admonition-title").get_text()


def test_no_two_statements_of_the_book_share_a_number(site):
    titles = [
        title.get_text()
        for page in THEORY
        for title in parsed(site / "book" / f"{page}.html").select("article div.proof .caption-number")
    ]
    numbers = [re.search(r"\d+(\.\d+)*", title)[0] for title in titles]
    assert numbers
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("page", chapter_names(ROOT))
def test_each_computed_page_says_how_it_was_made_and_that_smoke_proves_nothing(site, page):
    text = parsed(site / "book" / f"{page}.html").find("article").get_text(" ", strip=True)
    assert "How this page was made: scale smoke" in text
    assert re.sub(r"\s+", " ", text).count(f"geolib run {page} --scale smoke") == 1
    assert "It supports no claim" in text


def test_numbers_of_the_figure_are_in_its_table(site):
    numbers = json.loads((ROOT / "_build/smoke/results/figures/resnet_vs_plain.json").read_text("utf-8"))["numbers"]
    runs = [run for run in numbers["runs"] if run["kind"] == "plain" and run["weight_decay"] == 0.01]
    mean = sum(run["lss"] for run in runs) / len(runs)
    assert f"{mean:.3f} ±" in parsed(site / "book/figures/resnet_vs_plain.html").find("article").get_text()
    scale = yaml.safe_load((ROOT / "book/scales/smoke.yml").read_text("utf-8"))["figures/resnet_vs_plain"]["parameters"]
    assert len(numbers["runs"]) == 2 * len(scale["weight_decays"]) * len(scale["seeds"])


def test_smoke_verdicts_are_withheld(site):
    text = parsed(site / "book/figures/resnet_vs_plain.html").find("article").get_text(" ", strip=True)
    assert "too few seeds" in text


def test_the_ledger_shows_every_row_with_its_verdict_link_and_command(site, monkeypatch):
    monkeypatch.chdir(ROOT)
    rows = ledger_table()
    soup = parsed(site / "book/ledger.html").find("article")
    text = re.sub(r"\s+", " ", soup.get_text(" ", strip=True))
    assert {row.statement for row in rows.itertuples() if row.id.startswith("C")} <= {
        statement for statement in rows["statement"] if statement in text
    }
    shown = [" ".join(code.get_text().split()) for code in soup.select("table td code")]
    assert sorted(shown) == sorted(rows["command"])
    verdicts = [strong.get_text() for strong in soup.select("table td strong, table td b")]
    assert sorted(verdicts) == sorted(rows["verdict"])
    pages_linked = {a["href"].partition(".html")[0] for a in soup.select("table td a[href]")}
    assert pages_linked <= set(PAGES)


def test_front_page_leads_to_the_book(browser, address):
    browser.get(f"{address}/index.html")
    WebDriverWait(browser, 20).until(lambda window: window.current_url.endswith("/book/index.html"))
    await_page(browser, "Learn the Geodesic Curve")


@pytest.mark.parametrize(("page", "figures"), PICTURES)
def test_figures_are_drawn_in_a_browser(browser, address, page, figures):
    browser.get(f"{address}/book/{page}.html")
    images = browser.find_elements(By.CSS_SELECTOR, ".cell_output img:not(.drawing)")  # frames of a player are small
    assert len(images) >= figures
    for image in images:
        WebDriverWait(browser, 20).until(lambda _, image=image: image.get_property("naturalWidth") > 600)
        assert image.is_displayed()


def test_code_and_provenance_open_on_a_click(browser, address):
    browser.get(f"{address}/book/figures/resnet_vs_plain.html")
    folded = browser.find_element(By.CSS_SELECTOR, "details.hide")
    assert folded.get_attribute("open") is None
    folded.find_element(By.TAG_NAME, "summary").click()
    assert folded.get_attribute("open") is not None
    box = browser.find_element(
        By.XPATH, "//*[contains(@class, 'admonition') and contains(., 'How this page was made')]"
    )
    command = box.find_element(By.CSS_SELECTOR, "dd code")
    WebDriverWait(browser, 20).until(lambda _: not command.is_displayed())
    box.find_element(By.CSS_SELECTOR, ".admonition-title").click()
    WebDriverWait(browser, 5).until(lambda _: command.is_displayed())


def test_the_reader_goes_from_the_front_page_to_the_figure_and_its_deviations(browser, address):
    browser.get(f"{address}/book/index.html")
    browser.find_element(By.CSS_SELECTOR, "article a[href*='resnet_vs_plain']").click()
    await_page(browser, "ResNet against plain network")
    browser.find_element(By.CSS_SELECTOR, "article a[href*='deviations']").click()
    await_page(browser, "Deviations")


def test_plain_jupyter_book_builds_the_sources_too(tmp_path):
    """As `jupyter-book build .` on a fresh checkout, with smoke-sized defaults written into the chapter."""
    for name in ("_config.yml", "_toc.yml", "book"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    chapters = [find_chapter(ROOT, name) for name in chapter_names(ROOT)]
    for name in {name for chapter in chapters for name in chapter.inputs}:
        source, copy = ROOT / name, tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy)
        else:
            shutil.copy(source, copy)
    for chapter in chapters:
        path = tmp_path / "book" / f"{chapter.name}.md"
        text = path.read_text("utf-8")
        for name, value in scale_values(chapter, "smoke").items():
            text, count = re.subn(rf"^({name}: [^=]+= ).*$", rf"\g<1>{value!r}", text, flags=re.M)
            assert count == 1
        path.write_text(text, "utf-8")
    command = [Path(sys.executable).parent / "jupyter-book", "build", ".", "-W", "-n", "--keep-going"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for chapter in chapters:
        soup = parsed(tmp_path / "_build/html/book" / f"{chapter.name}.html")
        assert soup.select(".cell_output img, .cell_output table")
        assert not soup.select(".output.traceback")
