"""Processor time of the pipeline a byte of text, by script:

    python -m tests.bench.scripts [--runs 3] [--work work/bench]

User time of the whole command with one thread over each corpus beside the checkout, less that of a text of one line,
each the least of all runs. With it that of the text's part alone: normalising and cutting, in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline.inputs.chunks import CHUNK_BYTES
from pipeline.text.normalize import TextRules, normalize_lines
from pipeline.text.tokenize import scan_tokens, token_classes
from tests.bench.pipeline import plain_text
from tests.quality.corpora import shared_folder
from tests.support.paths import ROOT

#: How often each corpus is repeated, so that all are of about 60 MB: seconds of work beside those of start-up.
COPIES = {"wiki": 1 / 2, "chinese": 4, "french": 6, "greek": 8, "korean": 4, "russian": 6}


def user_seconds(text: str, tokenizer: str) -> tuple[float, int]:
    """Run the pipeline over files; return the user time of the process and all it starts, and the tokens."""
    with tempfile.TemporaryDirectory() as work, open(f"{work}/out", "w+b") as out:
        words = ["-m", "pipeline", "--input", text, "--output", f"{work}/data", "--threads", "1", "--json"]
        words += ["--tokenizer", tokenizer]
        child = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=out, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        return usage.ru_utime, json.loads(out.read().splitlines()[-1])["tokens"]


def text_seconds(folder: Path) -> float:
    """Normalise and cut all of a corpus; return the thread's time."""
    rules, classes, spent = TextRules(drop_invisible=True), token_classes("unicode"), 0.0
    for file in sorted(folder.iterdir()):
        data, begin = file.read_bytes(), 0
        while begin < len(data):
            end = data.find(b"\n", begin + CHUNK_BYTES - 1) + 1 or len(data)
            start = time.thread_time()
            scan_tokens(normalize_lines(data[begin:end], 0, rules)[0], classes, 1000, 10_000)
            spent, begin = spent + time.thread_time() - start, end
    return spent


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "bench")
    parser.add_argument("--tokenizer", default="unicode")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    (args.work / "line.txt").write_text(" ".join(f"word{number % 2000}" for number in range(10_000)))
    corpora = sorted(folder.name for folder in (shared_folder() / "corpora").iterdir() if folder.is_dir())
    texts = {name: plain_text(name, COPIES.get(name, 1), args.work) for name in corpora}
    least = dict.fromkeys(texts, (1e9, 1e9, 0))
    line, start = str(args.work / "line.txt"), 1e9
    user_seconds(line, args.tokenizer)  # compiles what is not
    for _ in range(args.runs):
        start = min(start, user_seconds(line, args.tokenizer)[0])
        for name, folder in texts.items():
            spent, tokens = user_seconds(f"{folder}/*", args.tokenizer)
            old = least[name]
            least[name] = (min(old[0], spent), min(old[1], text_seconds(folder)), tokens)
    english = 0.0
    print("| text | bytes a token | user ns a token | a byte | of English | normalising and cutting, ns a byte |")
    print("|---|---|---|---|---|---|")
    for name in sorted(texts, key="wiki".__ne__):
        size = sum(file.stat().st_size for file in texts[name].iterdir())
        spent, text, tokens = least[name]
        spent -= start
        english = english or spent / size
        print(
            f"| {name} | {size / tokens:.1f} | {spent / tokens * 1e9:.0f} | {spent / size * 1e9:.1f} "
            f"| {spent / size / english:.2f} | {text / size * 1e9:.1f} |"
        )


if __name__ == "__main__":
    main()
