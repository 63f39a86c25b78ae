"""What a Config may hold: the range of each number, the type and choices of each field, and what excludes what."""

from __future__ import annotations

import dataclasses
import difflib
import encodings.aliases
import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.text.elisions import ELIDED, canonical_languages, unknown_languages
from pipeline.text.encodings import UTF_8, canonical_name
from pipeline.text.tokenize import ITEMS

if TYPE_CHECKING:
    from pipeline.config import Config

NO_FIELD = "found {!r} with --input-format text, which has no fields: expected --input-format jsonl or parquet"

_TYPES: dict[type, str] = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}
_NAMES_OF_ENCODINGS = sorted({*encodings.aliases.aliases.values(), *encodings.aliases.aliases, "utf-8", "utf-16"})

_LARGEST = 2**63 - 1

#: Tokens of a sentence with --window 0, at most: their n (n − 1) pairs are a row group.
LONGEST_WHOLE = 1024

#: Smallest and largest value of each number.
RANGES: dict[str, tuple[float, float]] = {
    "min_count": (1, _LARGEST), "max_vocab": (0, 2**31 - 1), "window": (0, 1000), "sample": (0, math.inf),
    "phrases": (0, 10), "phrase_min_count": (1, _LARGEST), "passes": (1, 100), "shard_pairs": (1, _LARGEST),
    "seed": (0, _LARGEST), "max_dead_letter_fraction": (0, 1), "max_dead_letter_bytes": (0, 1 << 30),
    "max_sentence_tokens": (2, 1_000_000),
    "max_token_bytes": (1, 1 << 20), "threads": (0, 4096), "read_block_bytes": (1, 1 << 30), "keep": (0, _LARGEST),
    "max_decompression_ratio": (0, _LARGEST), "max_decompression_memory": (1 << 20, _LARGEST),
}  # fmt: skip


def in_one_form(config: Config) -> dict[str, object]:
    """Return fields that may be written in several ways: 1 for 1.0, a list for a tuple, UTF8 for utf-8."""
    forms: dict[str, object] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(field.default, float) and type(value) is int:
            forms[field.name] = float(value)
    if isinstance(config.input, (list, tuple)):
        forms["input"] = tuple(config.input)
    if isinstance(config.phrase_threshold, (list, tuple)):
        numbers = config.phrase_threshold
        forms["phrase_threshold"] = tuple(float(one) if type(one) is int else one for one in numbers)
    if config.window == 0 and config.max_sentence_tokens == type(config).max_sentence_tokens:
        forms["max_sentence_tokens"] = LONGEST_WHOLE
    if isinstance(config.encoding, str):
        forms["encoding"] = canonical_name(config.encoding) or config.encoding
    if isinstance(config.elisions, str):
        forms["elisions"] = canonical_languages(config.elisions)
    return forms


def faults(config: Config) -> Iterator[tuple[str, str]]:
    """Yield field and fault of each value that cannot be used, those of a wrong type first."""
    yield from _wrong_types(config)
    for name, (low, high) in RANGES.items():
        value = getattr(config, name)
        if not (low <= value <= high and math.isfinite(value)):
            some = "or more and finite" if high == math.inf else "or more" if high == _LARGEST else f"to {high}"
            yield name, f"found {value}, expected {low} {some}"
    for field in dataclasses.fields(config):
        value, choices = getattr(config, field.name), field.metadata.get("choices")
        if choices and value not in choices:
            yield field.name, f"found {value!r}, expected one of {', '.join(choices)}"
    if canonical_name(config.encoding) is None:
        near = difflib.get_close_matches(config.encoding.lower(), _NAMES_OF_ENCODINGS, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        yield "encoding", f"found {config.encoding!r}, expected one of Python's text encodings, as utf-16{hint}"
    if unknown := unknown_languages(config.elisions):
        yield "elisions", f"found {unknown[0]!r}, expected some of {', '.join(ELIDED)}, with commas"
    yield from _wrong_together(config)


def _wrong_types(config: Config) -> Iterator[tuple[str, str]]:
    for field in dataclasses.fields(config):
        value, kind = getattr(config, field.name), type(field.default)
        if field.name == "output":
            kind = str
        if field.name in ("input", "phrase_threshold"):
            part, what = (str, "globs") if field.name == "input" else (float, "numbers from 0 on")
            if not isinstance(value, tuple) or not all(type(one) is part for one in value):
                yield field.name, f"found {value!r}, expected a sequence of {what}"
        elif type(value) is not kind:
            yield field.name, f"found {value!r}, expected {_TYPES[kind]}"


def _wrong_together(config: Config) -> Iterator[tuple[str, str]]:
    """Yield what is valid by itself, and not with another option."""
    thresholds = config.phrase_threshold
    if not all(0 <= value < math.inf for value in thresholds):
        yield "phrase_threshold", f"found {thresholds}, expected numbers from 0 on"
    if len(thresholds) not in (1, config.phrases):
        yield (
            "phrase_threshold",
            f"found {len(thresholds)} values, expected one, or one for each round of --phrases {config.phrases}",
        )
    if config.window == 0 and config.max_sentence_tokens > LONGEST_WHOLE:
        found = f"found {config.max_sentence_tokens}, expected 2 to {LONGEST_WHOLE} with --window 0"
        yield "max_sentence_tokens", f"{found}: a sentence of n tokens gives n(n - 1) pairs"
    if config.input_format == "text" and config.text_field != "text":
        yield "text_field", NO_FIELD.format(config.text_field)
    if config.input_format == "parquet" and config.encoding != UTF_8:
        yield "encoding", "cannot be used with --input-format parquet, whose text is UTF-8"
    if config.tokenizer == ITEMS:
        yield from _wrong_with_items(config)
    if config.elisions and config.tokenizer in ("whitespace", ITEMS):
        yield "elisions", f"cannot be used with --tokenizer {config.tokenizer}, which cuts nothing else"
    if config.report and not config.wait:
        yield "report", "cannot be combined with --no-wait"
    if config.report and os.path.isdir(config.report):
        yield "report", f"found a folder at {config.report}, expected the name of a file"


def _wrong_with_items(config: Config) -> Iterator[tuple[str, str]]:
    if config.input_format == "text":
        yield "tokenizer", "found items with --input-format text, which has no lists: expected jsonl or parquet"
    if config.phrases:
        yield "phrases", f"found {config.phrases}, expected 0 with --tokenizer items, whose tokens stay as they are"
    if config.normalize == "NFKC":
        yield "normalize", "found NFKC with --tokenizer items, whose tokens stay as they are: leave it out"
