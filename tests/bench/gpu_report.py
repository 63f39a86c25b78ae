"""The GPU benchmark's figures as tables."""

from __future__ import annotations

from typing import Any


def describe(report: dict[str, Any]) -> str:
    """Format a report of tests.bench.gpu for people."""
    parts = ", ".join(f"{name} {ms:.2f}" for name, ms in report["parts_ms"].items())
    head = (
        f"{report['device']}, torch {report['torch']}, {report['cores']} cores; {report['words']:,} words, "
        f"{report['vocabulary']:,} of them different; D={report['dim']}, {report['negatives']} negatives, window 5\n"
        f"copy on the device {report['copy_bytes_per_s'] / 1e12:.2f} TB/s; a window has "
        f"{report['pairs_a_window']:.1f} pairs and moves {report['bytes_a_window'] / 1e3:.1f} kB; "
        f"Parquet decodes at {report['decoding_pairs_per_s'] / 1e6:,.0f} M pairs/s"
    )
    tables = [_speeds(report), [f"ms a row group: {parts}"], _trainings(report), _sweep(report)]
    return "\n\n".join([head, *map("\n".join, tables), f"all in {report['seconds']:.0f} s"])


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def _speeds(report: dict[str, Any]) -> list[str]:
    rows = [(f"kernel alone, {name}", one) for name, one in report["kernel"].items()]
    rows += [(f"trainer from Parquet, {one['name']}", one) for one in report["trainer"]]
    head = ["", "raw words/s", "M pairs/s", "M trained tokens/s", "share of the memory roof"]
    return _table(head, [[name, *_speed(one)] for name, one in rows])


def _speed(one: dict[str, Any]) -> list[str]:
    share = f"{one['share_of_memory_roof']:.0%}" if "share_of_memory_roof" in one else ""
    millions = (f"{one[name] / 1e6:,.2f}" for name in ("pairs_per_s", "tokens_per_s"))
    return [f"{one['raw_words_per_s']:,.0f}", *millions, share]


def _trainings(report: dict[str, Any]) -> list[str]:
    rows = []
    for one in report["trainer"]:
        scores = ", ".join(
            f"{name} {'none' if value is None else f'{value:.3f}'}" for name, value in one["scores"].items()
        )
        scores = scores or "no evaluation sets"
        rows.append([one["name"], f"{one['seconds']:.2f}", f"{one['start_up_s']:.2f}", f"{one['loss']:.4f}", scores])
    return _table(["training", "s", "start-up s", "loss", "scores"], rows)


def _sweep(report: dict[str, Any]) -> list[str]:
    ordered = sorted(report["sweep"], key=lambda one: -one["pairs_per_s"])
    names = ("arithmetic", "warps", "programs_per_sm")
    rows = [[*(str(one[name]) for name in names), f"{one['pairs_per_s'] / 1e6:,.2f}"] for one in ordered]
    return _table(["arithmetic", "warps (0: chosen)", "programs a multiprocessor", "M pairs/s"], rows)
