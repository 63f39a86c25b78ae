"""Reports as people see them: in a real browser, on a phone and on a desk, by day and by night."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.common.page import numbers
from tests.engines.browser import Browser, browser
from tests.support.paths import ROOT

pytestmark = pytest.mark.engines
SCREENS = {"phone": (390, 844), "desk": (1280, 900)}
TOPICS = [
    ["fox", "dog", "cat", "bear", "wolf", "hare", "deer", "lynx"],
    ["αθήνα", "σπάρτη", "κόρινθος", "θήβα", "άργος", "δελφοί", "πάτρα", "ρόδος"],
    ["東京", "大阪", "京都", "横浜", "神戸", "札幌", "福岡", "仙台"],
    ["القاهرة", "بغداد", "دمشق", "بيروت", "عمان", "الرباط", "تونس", "صنعاء"],
    ["ירושלים", "חיפה", "אילת", "צפת", "עכו", "יפו", "טבריה", "רמלה"],
    ["서울", "부산", "대구", "인천", "광주", "대전", "울산", "세종"],
    ["<script>document.title='owned'</script>", "<img/src=x>", "&amp;", "</svg>", "\"quoted'", "%s", "{{x}}", "a&b"],
]

CASES = [*itertools.product(("corpus", "second"), SCREENS, (False, True)), ("first", "phone", False)]

#: What is wrong with the charts: empty or too small ones; ones that leave the screen.
_FAULTS = """
return [...document.querySelectorAll('figure')].flatMap(figure => {
  const svg = figure.querySelector('.plot svg');
  if (!svg) return [`${figure.id}: no chart`];
  const box = svg.getBoundingClientRect(), marks = svg.querySelectorAll('.mark-text text, path').length;
  const fits = box.width >= 250 && box.height >= 30 && box.right <= innerWidth + 1;
  return fits && marks > 3 ? [] : [`${figure.id}: ${box.width} x ${box.height} up to ${box.right}, ${marks} marks`];
});
"""
#: Whether all charts are there, whose library draws them after the page was loaded.
_DRAWN = "return document.querySelectorAll('figure').length === document.querySelectorAll('.plot svg').length"
#: Where on the screen the marks are that draw some word of the map, and how much of them is seen.
_POINTS = """
const [figure, word] = arguments;
document.getElementById(figure).scrollIntoView({block: 'start'});
return [...document.querySelectorAll(`#${figure} .plot path`)].filter(
  path => path.__data__ && path.__data__.datum && path.__data__.datum.word === word
).map(path => {
  const box = path.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2, Number(path.getAttribute('fill-opacity') ?? 1), box.width];
});
"""


def call(*words: str) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", *words, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def write_corpus(file: Path) -> None:
    rng = np.random.default_rng(1)
    lines = []
    for _ in range(4000):
        topic = TOPICS[rng.integers(len(TOPICS))]
        lines.append(" ".join([*rng.choice(topic, rng.integers(2, 40)), f"w{int(rng.exponential(80))}"]))
    file.write_bytes("\n".join(lines).encode() + b"\nbroken \xff line\n" * 2 + b"x" * 2000 + b"\n")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Reports of a run, of a first model and of the one after it."""
    folder = tmp_path_factory.mktemp("pages")
    write_corpus(folder / "text.txt")
    (folder / "sim.tsv").write_text("fox\tdog\t9\nfox\t東京\t1\n東京\t大阪\t8\nαθήνα\tσπάρτη\t7\n")
    (folder / "questions.txt").write_text(": beasts\nfox dog cat bear\n: πόλεις\nαθήνα σπάρτη θήβα άργος\n")
    pages = {name: folder / f"{name}.html" for name in ("corpus", "first", "second")}
    data, model = str(folder / "data"), str(folder / "model")
    flags = ["--passes", "4", "--tokenizer", "whitespace", "--sample", "0", "--max-dead-letter-fraction", "0.5"]
    call("pipeline", "--input", str(folder / "text.txt"), "--output", data, *flags, "--report", str(pages["corpus"]))
    sets = ["--similarity", str(folder / "sim.tsv"), "--analogies", str(folder / "questions.txt")]
    common = ["train", "--data", data, "--model", model, "--dim", "24"]
    call("trainer", *common, *sets, "--epochs", "2", "--report", str(pages["first"]))
    call("trainer", *common, "--epochs", "4", "--overwrite")
    words = ",".join(topic[0] for topic in TOPICS)
    call("trainer", "report", "--model", model, *sets, "--words", words, "--to", str(pages["second"]))
    return pages


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as tab:
        tab.show("about:blank", *SCREENS["desk"], dark=False)
        tab.requests()  # those of the browser's own start page
        yield tab


def show(chromium: Browser, page: Path, screen: str, dark: bool = False) -> None:
    chromium.show(page.as_uri(), *SCREENS[screen], dark)
    chromium.wait(_DRAWN)


@pytest.mark.parametrize(("name", "screen", "dark"), CASES)
def test_a_report_is_readable(
    pages: dict[str, Path], chromium: Browser, tmp_path: Path, name: str, screen: str, dark: bool
) -> None:
    show(chromium, pages[name], screen, dark)
    assert chromium.requests() == [pages[name].as_uri()]
    assert chromium.log("browser") == []
    assert chromium.evaluate("return document.title").endswith(" · pairstream")  # no token's script ran
    assert chromium.evaluate("return document.images.length") == 0
    assert chromium.evaluate("return document.documentElement.scrollWidth") <= SCREENS[screen][0]
    assert chromium.evaluate(_FAULTS) == []
    background = chromium.evaluate("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 200) == dark
    _look_at_charts(chromium, tmp_path / "page.png")


def _look_at_charts(chromium: Browser, file: Path) -> None:
    """In the picture of each chart there is ink, and something in the accent colour."""
    from PIL import Image

    image = np.asarray(Image.open(chromium.screenshot(file)).convert("RGB")).astype(int)
    boxes = chromium.evaluate(
        "return [...document.querySelectorAll('.plot svg')]"
        ".map(s => [s.closest('figure').id, s.getBoundingClientRect()])"
        ".map(([id, b]) => [id, b.left, b.top + scrollY, b.right, b.bottom + scrollY])"
    )
    assert len(boxes) >= 4
    page = image[2, 2]
    for name, *box in boxes:
        left, top, right, bottom = map(int, box)
        pixels = image[top:bottom, left:right]
        inked = np.abs(pixels - page).sum(axis=2) > 90
        coloured = inked & (pixels[:, :, 2] - pixels[:, :, 0] > 40)  # the accent is a blue, by day and by night
        assert inked.mean() > 0.005, name
        assert coloured.sum() > 15, name
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10, name


def test_a_script_that_is_not_the_pages_own_is_not_run(pages: dict[str, Path], chromium: Browser) -> None:
    """Even where markup came into the page, its policy would hold."""
    show(chromium, pages["second"], "desk")
    chromium.evaluate(
        "const script = document.createElement('script'); script.textContent = 'document.title = 1';"
        "document.body.append(script);"
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title = 2\">')"
    )
    assert chromium.evaluate("return document.title").endswith(" · pairstream")
    assert any("Content Security Policy" in entry["message"] for entry in chromium.log("browser"))


@pytest.mark.parametrize(
    ("name", "figure", "said"),
    [("corpus", "sentence-lengths", "share of sentences"), ("second", "scores", "scored"), ("second", "loss", "epoch")],
)
def test_a_pointer_on_a_chart_shows_its_numbers(
    pages: dict[str, Path], chromium: Browser, name: str, figure: str, said: str
) -> None:
    show(chromium, pages[name], "desk")
    chromium.evaluate("document.getElementById(arguments[0]).scrollIntoView({block: 'center'})", figure)
    box = chromium.evaluate(
        "const marks = document.querySelectorAll(`#${arguments[0]} .plot .mark-rect path, #${arguments[0]} .plot "
        ".mark-symbol path, #${arguments[0]} .plot .mark-rule line`);"
        "return [...marks].map(mark => mark.getBoundingClientRect()).at(-1)", figure
    )  # fmt: skip
    assert said in hover(chromium, box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def hover(chromium: Browser, x: float, y: float) -> str:
    """Move the pointer; return what the tooltip says then."""
    chromium.command("Input.dispatchMouseEvent", type="mouseMoved", x=x - 3, y=y)
    chromium.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    chromium.wait("return !!document.querySelector('#vg-tooltip-element.visible')")
    shown: str = chromium.evaluate("return document.querySelector('#vg-tooltip-element').innerText")
    return shown


def mapped(chromium: Browser, topic: list[str]) -> list[str]:
    """Words of a topic that are on the map, as it shows them; some of each are among the function words."""
    spec = json.loads(chromium.evaluate("return document.querySelector('#word-map script').textContent"))
    on_map = {row["word"] for row in spec["data"][0]["values"]}
    return [shown for word in topic if (shown := numbers.token(word, 24)) in on_map]


@pytest.mark.parametrize("topic", [0, 3, 6])
def test_a_word_of_the_map_says_what_it_is(pages: dict[str, Path], chromium: Browser, topic: int) -> None:
    show(chromium, pages["second"], "desk")
    word = mapped(chromium, TOPICS[topic])[0]
    [(x, y, *_)] = chromium.evaluate(_POINTS, "word-map", word)
    lines = hover(chromium, x, y).split("\n")
    assert lines[0] == word
    assert {"count", "nearest"} <= {line.strip().rstrip(":") for line in lines[1:]}
    assert (
        chromium.evaluate("return document.querySelector('#vg-tooltip-element').querySelectorAll('img, script').length")
        == 0
    )
    assert chromium.evaluate("return document.title").endswith(" · pairstream")


@pytest.mark.parametrize("screen", SCREENS)
def test_the_search_box_finds_words_and_the_buttons_zoom(
    pages: dict[str, Path], chromium: Browser, screen: str
) -> None:
    show(chromium, pages["second"], screen)
    fox, dog = mapped(chromium, TOPICS[0])[:2]
    [(x, _, before, size)], [(other_x, _, other, _)] = (chromium.evaluate(_POINTS, "word-map", w) for w in (fox, dog))
    assert before == other
    chromium.evaluate("document.getElementById('word-map-search').focus()")
    chromium.command("Input.insertText", text=fox.upper())
    chromium.wait(f"return (() => {{{_POINTS}}})(...arguments)[0][2] === 1", "word-map", fox)
    assert chromium.evaluate(_POINTS, "word-map", fox)[0][3] > size
    named = "return [...document.querySelectorAll('#word-map .found-names text')].map(text => text.textContent)"
    assert fox in chromium.evaluate(named)
    assert dog not in chromium.evaluate(named)
    assert chromium.evaluate(_POINTS, "word-map", dog)[0][2] < other
    chromium.evaluate("document.getElementById('word-map-in').click()")
    chromium.wait(
        f"const found = (() => {{{_POINTS}}})(...arguments); return Math.abs(found[0][0] - {x}) > 1", "word-map", fox
    )
    zoomed_x, other_zoomed_x = (chromium.evaluate(_POINTS, "word-map", word)[0][0] for word in (fox, dog))
    assert (zoomed_x - other_zoomed_x) == pytest.approx((x - other_x) / 0.6, abs=2)
    chromium.evaluate("document.getElementById('word-map-all').click()")
    chromium.wait(
        f"const found = (() => {{{_POINTS}}})(...arguments); return Math.abs(found[0][0] - {x}) < 1", "word-map", fox
    )


def test_the_map_zooms_by_a_wheel_with_ctrl_and_moves_by_a_drag(pages: dict[str, Path], chromium: Browser) -> None:
    show(chromium, pages["second"], "desk")
    fox, dog = mapped(chromium, TOPICS[0])[:2]
    [(x, y, *_)], [(other, *_)] = (chromium.evaluate(_POINTS, "word-map", word) for word in (fox, dog))
    chromium.command("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-100, modifiers=2)
    moved = f"const found = (() => {{{_POINTS}}})(...arguments); return Math.abs(found[0][0] - %f) > 1"
    chromium.wait(moved % other, "word-map", dog)
    [(zoomed_x, zoomed_y, *_)] = chromium.evaluate(_POINTS, "word-map", fox)
    assert (zoomed_x, zoomed_y) == pytest.approx((x, y), abs=3)  # what the pointer is on stays
    for kind, left, buttons in (("mousePressed", x, 1), ("mouseMoved", x + 40, 1), ("mouseReleased", x + 40, 0)):
        chromium.command("Input.dispatchMouseEvent", type=kind, x=left, y=y + 1, button="left", buttons=buttons)
    chromium.wait(moved % zoomed_x, "word-map", fox)
    assert chromium.evaluate(_POINTS, "word-map", fox)[0][0] == pytest.approx(zoomed_x + 40, abs=3)


def test_every_plot_unfolds_its_numbers(pages: dict[str, Path], chromium: Browser) -> None:
    show(chromium, pages["second"], "phone")
    rows = chromium.evaluate(
        "document.querySelectorAll('details').forEach(d => d.open = true);"
        "return [...document.querySelectorAll('figure')].map(f => [f.id, f.querySelectorAll('tbody tr').length,"
        " f.querySelector('table').getBoundingClientRect().height])"
    )
    assert {name for name, _, _ in rows} >= {
        "scores", "sections-1", "word-map", "norms", "similarity", "loss", "learning-rate", "speed", "cosines",
        "rank-frequency", "coverage", "sentence-lengths", "dead-letters",
    }  # fmt: skip
    assert all(count > 0 and tall > 20 for _, count, tall in rows)
    assert chromium.evaluate("return document.documentElement.scrollWidth") <= SCREENS["phone"][0]


def test_words_of_every_script_have_their_glyphs_and_their_place(pages: dict[str, Path], chromium: Browser) -> None:
    """Isolated from what stands beside them: a word from the right to the left keeps its number to its right."""
    show(chromium, pages["second"], "desk")
    lines = chromium.evaluate(
        "return [...document.querySelectorAll('.words li')].map(li => {"
        "const [a, b] = [...li.children].map(c => c.getBoundingClientRect());"
        "return [li.children[0].textContent, a.left, a.right, b.left]})"
    )
    assert len(lines) > 20
    assert all(left < right <= number for _, left, right, number in lines)
    shown = {text for text, *_ in lines}
    assert all(len(shown & set(topic)) >= 3 for topic in TOPICS)
