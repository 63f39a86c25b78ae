"""How fast the pipeline is, by stage, beside DuckDB's word count, and over corpora of several sizes: `make bench`, or

    python -m tests.bench.pipeline [--runs 3] [--threads 2] [--work work/bench] [--copies 4]

The text is the wiki corpus (and the Greek one) beside the checkout as plain files, repeated. Start-up (imports, the
runner, its change from stage to stage) stands apart: it is what the same command takes for a text of one line, run
in each round. Memory is the peak of the process and of all that it starts.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.memory import watched_tree
from tests.quality.corpora import shared_folder
from tests.support.paths import ROOT

STAGES = ("counting", "vocabulary", "encoding", "writing pairs")
#: Copies of the corpus in the curve; a fraction is so many of its files.
SIZES = (1 / 8, 1, 4, 16)


def plain_text(corpus: str, copies: float, work: Path) -> Path:
    """Write a corpus as plain files below ``work``, once; return their folder.

    Each copy has files of its own; a text of the first copy's files again has the same words.
    """
    folder = work / f"{corpus}-{copies:g}"
    if folder.exists():
        return folder
    sources = sorted((shared_folder() / "corpora" / corpus).glob("*.gz"))
    sources = sources if copies >= 1 else sources[: max(1, round(len(sources) * copies))]
    unfinished = Path(tempfile.mkdtemp(dir=work))
    for copy in range(max(1, int(copies))):
        for source in sources:
            with gzip.open(source, "rb") as text, (unfinished / f"{copy:02}-{source.stem}").open("wb") as out:
                shutil.copyfileobj(text, out)
    return unfinished.rename(folder)


def timed(words: Sequence[str]) -> tuple[dict[str, Any], float, float]:
    """Run a command of Python; return its last line as JSON, its seconds, its peak memory in GB."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    with child.stdout, watched_tree(child.pid) as most:
        output = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"error: {' '.join(words)}: found exit status {child.returncode}, expected 0")
    return json.loads(output.splitlines()[-1]), seconds, max(usage.ru_maxrss * 1024, *most) / 1e9


def build(folder: Path, work: Path, threads: int, *flags: str) -> dict[str, float]:
    """Run the whole pipeline; return tokens, seconds of each stage and of all else, and GB."""
    data = work / "bench-data"
    shutil.rmtree(data, ignore_errors=True)
    words = ["-m", "pipeline", "--input", f"{folder}/*", "--output", str(data), "--json", "--threads", str(threads)]
    result, seconds, memory = timed([*words, *flags])
    shutil.rmtree(data)
    stages = {name: float(result["stage_seconds"].get(name, 0.0)) for name in STAGES}
    return {"tokens": result["tokens"], "all": seconds, "GB": memory} | stages


def start_up(work: Path, threads: int) -> float:
    """Return the seconds of the whole pipeline over one line."""
    folder = work / "one-line"
    folder.mkdir(exist_ok=True)
    (folder / "text").write_text("one line of a few words\n")
    return build(folder, work, threads, "--min-count", "1", "--sample", "0")["all"]


def middle(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Medians of what several runs measured."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def row(name: str, rounds: Sequence[dict[str, float]]) -> str:
    """One line of the table of rates."""
    one = middle(rounds)
    rates = [r["tokens"] / (r["all"] - r["start-up"]) / 1e6 for r in rounds]
    shares = " ".join(f"{one[stage] / sum(one[each] for each in STAGES):.0%}" for stage in STAGES)
    return (
        f"| {name} | {one['tokens'] / 1e6:.1f} | {statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f}) "
        f"| {one['tokens'] / one['all'] / 1e6:.1f} | {one['start-up']:.1f} | {shares} | {one['GB']:.2f} |"
    )


def compare_counting(text: Path, work: Path, threads: int, runs: int) -> str:
    """Our counting pass against DuckDB's count of the same text, in turn."""
    ratios, ours, theirs = [], [], []
    for _ in range(runs):
        peer, _, _ = timed(["-m", "tests.bench.duckdb_peer", f"{text}/*", str(threads)])
        built = build(text, work, threads, "--tokenizer", "whitespace", "--normalize", "none")
        theirs.append(peer["words"] / peer["count_s"] / 1e6)
        ours.append(built["tokens"] / built["counting"] / 1e6)
        ratios.append(ours[-1] / theirs[-1])
    return (
        f"counting pass {statistics.median(ours):.1f} M tokens/s, DuckDB {statistics.median(theirs):.1f} M: "
        f"{statistics.median(ratios):.1f} times as fast ({min(ratios):.1f} to {max(ratios):.1f})"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "bench")
    parser.add_argument("--copies", type=int, default=4)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    wiki, greek = (plain_text(corpus, args.copies, args.work) for corpus in ("wiki", "greek"))
    print(
        f"{platform.machine()}, {args.threads} threads, medians of {args.runs} interleaved runs (least to greatest)\n"
    )
    print(compare_counting(wiki, args.work, args.threads, args.runs), "\n")
    head = f"M tokens | M tokens/s | with start-up | start-up, s | share of {', '.join(STAGES)} | peak GB"
    print(f"| text | {head} |\n|---|---|---|---|---|---|---|")
    cases = {
        f"English ×{args.copies}, whitespace": (wiki, ("--tokenizer", "whitespace")),
        f"English ×{args.copies}, unicode": (wiki, ()),
        f"Greek ×{args.copies}, unicode": (greek, ()),
    }
    sizes = {f"English ×{size:g}, unicode": (plain_text("wiki", size, args.work), ()) for size in SIZES}
    rounds: dict[str, list[dict[str, float]]] = {}
    for _ in range(args.runs):
        begun = start_up(args.work, args.threads)
        for name, (text, flags) in (cases | sizes).items():
            built = build(text, args.work, args.threads, *flags)
            rounds.setdefault(name, []).append({**built, "start-up": begun})
    print("\n".join(row(name, found) for name, found in rounds.items()))


if __name__ == "__main__":
    main()
