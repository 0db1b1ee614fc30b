"""Every page in a real Chromium: nothing goes wrong, nothing leaves the page, all is seen and can be read.

``GEOMM_PICTURES=folder`` keeps a picture of every page, light, dark and narrow.
"""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

import pytest
from browsing import CONTRAST, IMAGES, WIDTH, Browser, find_browser
from paged import MAKERS
from recorded import HOSTILE

pytestmark = pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")
NAMED = ("training", "batch", "gallery", "search")
"""Pages that show names of other people's items."""
HARM = " ".join(text.replace("\ud800", "") for text in HOSTILE if len(text) < 1000)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def pages(recipe, tmp_path_factory):
    made = {name: make(recipe, tmp_path_factory.mktemp(name)) for name, make in MAKERS.items()}
    return made | {f"{n}-harm": MAKERS[n](recipe, tmp_path_factory.mktemp(n), HARM) for n in NAMED}


def look(browser, name):
    if folder := os.environ.get("GEOMM_PICTURES"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.picture(Path(folder) / f"{name}.png")


@pytest.mark.parametrize(
    ("name", "width", "dark"),
    [
        *product(MAKERS, [1280, 390], [False, True]),
        *((f"{n}-harm", width, dark) for n in NAMED for width, dark in ((1280, False), (390, True))),
    ],
)
def test_a_page_is_whole_and_alone(browser, pages, name, width, dark):
    visit = browser.open(pages[name], width=width, dark=dark)
    browser.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert visit.errors == []
    assert visit.requests == []
    assert visit.dialogs == []
    images = browser.run(IMAGES)
    assert [alt for alt, seen, _ in images if not seen] == []
    assert images
    look(browser, f"{name}-{width}-{'dark' if dark else 'light'}")
    assert browser.run(WIDTH) <= 0
    assert browser.run(CONTRAST) == []
    assert browser.run("getComputedStyle(document.body).backgroundColor") == (
        "rgb(19, 22, 27)" if dark else "rgb(245, 246, 248)"
    )


def test_charts_follow_the_light(browser, pages):
    used = []
    for dark in (False, True):
        browser.open(pages["training"], dark=dark)
        used.append(browser.run("[...document.querySelectorAll('.chart img')].map(i => i.currentSrc)"))
    assert len(used[0]) == 3
    assert not set(used[0]) & set(used[1])


def test_the_browser_tells_what_goes_wrong(browser, tmp_path):
    """The checks find what they are for: a script, a request, a word in the colour of the page, a page too wide."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<body style='background:#fff'><script>console.error('x');alert(1);nothing()</script><img src='there.png' alt='lost'>"
        "<img src='http://127.0.0.1:9/x.png'><p style='color:#ddd'>pale</p><div style='width:2000px'>wide</div>"
    )
    visit = browser.open(page)
    assert len(visit.errors) >= 2
    assert visit.dialogs == ["1"]
    assert {r.rsplit("/", 1)[1] for r in visit.requests} == {"there.png", "x.png"}
    assert [seen for _, seen, _ in browser.run(IMAGES)] == [False, False]
    assert browser.run(WIDTH) > 500
    assert [line.split(":")[0].split()[1] for line in browser.run(CONTRAST)] == ["P."]
    page.write_text(
        page.read_text().replace("<body", f"<meta http-equiv='Content-Security-Policy' content=\"{policy()}\"><body")
    )
    guarded = browser.open(page)
    assert guarded.dialogs == []
    assert any("Content Security Policy" in e for e in guarded.errors)


def policy():
    from geomm.pages import POLICY

    return POLICY
