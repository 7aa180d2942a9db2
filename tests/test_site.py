"""The documentation as a site: built strictly, nothing comes from elsewhere, links lead on."""

import importlib.util
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import fastrnn

ROOT = Path(__file__).resolve().parents[1]
NEEDS = ("material", "mkdocs", "mkdocstrings_handlers.python", "ziamath")
ELSEWHERE = re.compile(r"\s*(?:https?:)?//")
DRAWN = re.compile(r'<svg role="img" aria-label="(.*?)".*? height="(.*?)"', re.S)
IN_CSS = re.compile(r"(?:url\(\s*|@import\s*)[\"']?((?:https?:)?//[^\"')\s]+)")


def missing() -> list[str]:
    return [name for name in NEEDS if not importlib.util.find_spec(name.partition(".")[0])]


pytestmark = pytest.mark.skipif(bool(missing()), reason=f"without the extra docs: {missing()}")


class Page(HTMLParser):
    """What a page loads, where its links lead, and what can be linked to."""

    def __init__(self, text: str):
        super().__init__()
        self.loads, self.links, self.ids, self.classes = [], [], set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        self.classes |= set(given.get("class", "").split())
        if tag == "a":
            self.links += [given["href"]] if "href" in given else []
            return
        loaded = ("src", "srcset", "data", "poster", "href", "xlink:href")
        self.loads += [given[name] for name in loaded if name in given]
        self.loads += IN_CSS.findall(given.get("style", ""))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site's folder, and its pages by their paths in it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    run = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert run.returncode == 0, run.stdout + run.stderr
    pages = {path: Page(path.read_text()) for path in folder.rglob("*.html")}
    assert len(pages) > 30
    return folder, pages


def test_nothing_is_loaded_from_elsewhere(site):
    folder, pages = site
    for path, page in pages.items():
        away = [url for url in page.loads if ELSEWHERE.match(url)]
        assert page.loads and not away, f"{path.name} loads {away}"
        assert "mermaid" not in page.classes  # the theme would fetch a script for it
        assert not IN_CSS.findall(path.read_text()), path.name
    sheets = list(folder.rglob("*.css"))
    assert len(sheets) >= 3
    for sheet in sheets:
        assert not IN_CSS.findall(sheet.read_text()), sheet.name


def test_links_lead_to_pages_and_places_in_them(site):
    folder, pages = site
    broken = []
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # its links are from the site's root
        for url in page.links + page.loads:
            if re.match(r"[a-z]+:", url):
                continue
            file, _, place = unquote(url).partition("#")
            target = (path.parent / file.partition("?")[0]).resolve() if file else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (place and place not in pages[target].ids):
                broken.append(f"{path.relative_to(folder)}: {url}")
    assert not broken


def test_formulas_are_drawn(site):
    folder, _ = site
    cells = list((folder / "zoo").glob("*.html"))
    assert len(cells) > 9
    for path in cells:
        found = DRAWN.findall(path.read_text())
        assert found, path.name
        for source, height in found:
            lines = source.count(r"\\") + 1  # all in one where an environment is not understood
            assert float(height) > 18 * lines, path.name


def test_every_public_name_has_its_place(site):
    folder, pages = site
    ids = {place for path, page in pages.items() if path.parent.name == "api" for place in page.ids}
    last = {place.rpartition(".")[2] for place in ids}
    public = {*fastrnn.__all__, *fastrnn.functional.__all__, *fastrnn.zoo.__all__}
    assert not public - last - {"__version__", "functional", "zoo"}


def test_the_search_finds_a_cell(site):
    folder, _ = site
    found = json.loads((folder / "search" / "search_index.json").read_text())["docs"]
    places = [entry["location"] for entry in found if "PeepholeLSTM" in entry["text"]]
    assert "zoo/peephole_lstm.html" in places and not [p for p in places if ".py.html" in p]
