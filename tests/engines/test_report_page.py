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

from tests.engines.browser import Browser, browser

pytestmark = pytest.mark.engines
ROOT = Path(__file__).resolve().parents[2]
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

#: What is wrong with the drawings that are shown: empty or too small ones; text that leaves its drawing or the screen,
#: or covers other text of the drawing.
_FAULTS = """
const faults = [], slack = 1.5;
for (const svg of document.querySelectorAll('svg.plot')) {
  if (getComputedStyle(svg).display === 'none') continue;
  const name = svg.closest('figure').id, frame = svg.getBoundingClientRect();
  if (frame.width < 250 || frame.height < 30) faults.push(`${name}: ${frame.width} x ${frame.height}`);
  const boxes = [...svg.querySelectorAll('text')].map(text => {
    const box = text.getBoundingClientRect(), idle = box.height / 5;  // above and below the letters
    return [text.textContent, new DOMRect(box.x, box.y + idle, box.width, box.height - 2 * idle)];
  });
  boxes.forEach(([text, box], i) => {
    if (box.width === 0) faults.push(`${name}: nothing is seen of ${text}`);
    if (box.left < frame.left - slack || box.right > frame.right + slack || box.top < frame.top - slack ||
        box.bottom > frame.bottom + slack) faults.push(`${name}: ${text} leaves its drawing`);
    boxes.slice(0, i).forEach(([other, b]) => {
      if (box.left < b.right && b.left < box.right && box.top + slack < b.bottom && b.top + slack < box.bottom)
        faults.push(`${name}: ${text} covers ${other}`);
    });
  });
}
return faults;
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


@pytest.mark.parametrize(("name", "screen", "dark"), CASES)
def test_a_report_is_readable(
    pages: dict[str, Path], chromium: Browser, tmp_path: Path, name: str, screen: str, dark: bool
) -> None:
    width, height = SCREENS[screen]
    chromium.show(pages[name].as_uri(), width, height, dark)
    assert chromium.requests() == [pages[name].as_uri()]
    assert chromium.log("browser") == []
    assert chromium.evaluate("return document.title").endswith(" · pairstream")  # no token's script ran
    assert chromium.evaluate("return document.scripts.length + document.images.length") == 0
    assert chromium.evaluate("return document.documentElement.scrollWidth") <= width
    assert chromium.evaluate(_FAULTS) == []
    background = chromium.evaluate("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 200) == dark
    _look_at_drawings(chromium, tmp_path / "page.png")


def _look_at_drawings(chromium: Browser, file: Path) -> None:
    """In the picture of each drawing there is ink, and something in the accent colour."""
    from PIL import Image

    image = np.asarray(Image.open(chromium.screenshot(file)).convert("RGB")).astype(int)
    boxes = chromium.evaluate(
        "const seen = [...document.querySelectorAll('svg.plot')].filter(s => getComputedStyle(s).display !== 'none');"
        "return seen.map(s => [s.closest('figure').id, s.getBoundingClientRect()])"
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


def test_every_plot_unfolds_its_numbers(pages: dict[str, Path], chromium: Browser) -> None:
    chromium.show(pages["second"].as_uri(), *SCREENS["phone"], dark=False)
    rows = chromium.evaluate(
        "document.querySelectorAll('details').forEach(d => d.open = true);"
        "return [...document.querySelectorAll('figure')].map(f => [f.id, f.querySelectorAll('tbody tr').length,"
        " f.querySelector('table').getBoundingClientRect().height])"
    )
    assert {name for name, _, _ in rows} >= {
        "scores", "sections-1", "word-map", "loss", "learning-rate", "speed", "cosines", "rank-frequency", "coverage",
        "sentence-lengths", "dead-letters",
    }  # fmt: skip
    assert all(count > 0 and tall > 20 for _, count, tall in rows)
    assert chromium.evaluate("return document.documentElement.scrollWidth") <= SCREENS["phone"][0]


def test_words_of_every_script_have_their_glyphs_and_their_place(pages: dict[str, Path], chromium: Browser) -> None:
    """Isolated from what stands beside them: a word from the right to the left keeps its number to its right."""
    chromium.show(pages["second"].as_uri(), *SCREENS["desk"], dark=False)
    lines = chromium.evaluate(
        "return [...document.querySelectorAll('.words li')].map(li => {"
        "const [a, b] = [...li.children].map(c => c.getBoundingClientRect());"
        "return [li.children[0].textContent, a.left, a.right, b.left]})"
    )
    assert len(lines) > 20
    assert all(left < right <= number for _, left, right, number in lines)
    shown = {text for text, *_ in lines}
    assert all(len(shown & set(topic)) >= 3 for topic in TOPICS)
