"""The quality check of --phrases: on real text the names that everybody knows must become tokens.

    python -m tests.quality.phrases [--work work/quality]

Default settings, one round and two. Beside the names it prints what each stage costs.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from pipeline.dataset.reader import open_dataset
from tests.bench.peers import command
from tests.quality.corpora import shared_folder
from tests.support.paths import ROOT

#: By round: tokens that the first so many rounds must make, and ones that they must not.
WANTED = {
    1: ("new_york", "united_states", "prime_minister", "los_angeles", "world_war"),
    2: ("new_york_city", "world_war_ii", "rio_de_janeiro"),
}
UNWANTED = ("of_the", "in_the", "and_the", "to_be")


def build(shared: Path, output: Path, rounds: int) -> dict[str, object]:
    """Build the dataset of the wiki corpus; return the command's result."""
    shutil.rmtree(output, ignore_errors=True)
    source = str(shared / "corpora" / "wiki" / "*.gz")
    return command("-m", "pipeline", "--input", source, "--output", str(output), "--phrases", str(rounds), "--json")


def missed(output: Path, rounds: int) -> list[str]:
    """Name what is not as it must be after ``rounds`` rounds."""
    vocabulary = open_dataset(str(output)).vocabulary()
    lacking = [word for n in range(1, rounds + 1) for word in WANTED[n] if vocabulary.id_of(word) is None]
    return lacking + [word for word in UNWANTED if vocabulary.id_of(word) is not None]


def main() -> int:
    """Run the check; return 1 where a name is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "quality")
    args = parser.parse_args()
    shared, output, wrong = shared_folder(), args.work / "phrases", []
    for rounds in (1, 2):
        result = build(shared, output, rounds)
        wrong += missed(output, rounds)
        print(f"--phrases {rounds}: {result['phrases']} phrases, {result['tokens']:,} tokens, {result['seconds']} s")
        print(f"  {result['stage_seconds']}")
    shutil.rmtree(output, ignore_errors=True)
    print(f"missed: {' '.join(wrong)}" if wrong else "all names are as expected")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
