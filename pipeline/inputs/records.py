"""Text out of records: a field of JSON lines (a column of Parquet: parquet_rows) becomes what chunks are cut from.

Each record's text is followed by one line feed, so that a record reads as the same lines would in a text file. A list
of items becomes a line as pipeline.text.items has it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.inputs.chunks import BOM
from pipeline.inputs.discover import InputFile
from pipeline.storage import storage
from pipeline.text.items import join_items
from pipeline.text.normalize import DeadLetter
from pipeline.text.tokenize import ITEMS

#: A longer line means that the file is not JSON lines: a record has to fit into memory.
MAX_RECORD_BYTES = 64 << 20

_SURROGATE = re.compile("[\ud800-\udfff]")
# Numbers are never looked at; as floats they have no limit of digits, as Python's integers from text do.
_parse_json = json.JSONDecoder(parse_int=float).decode
_parse_items = json.JSONDecoder(parse_int=str).decode  # an integer is an item as it is written

_FOUND = {
    "invalid-json": "found no JSON, expected one JSON object a line",
    "no-text-field": "found no string in the field {field!r}, expected one (see --text-field)",
    "no-list-field": "found no list in the field {field!r}, expected one for --tokenizer items (see --text-field)",
    "invalid-item": "found a list in the field {field!r} with something other than whole numbers and strings that are "
    "not empty, expected only these",
    "invalid-utf-8": "the text is not valid UTF-8 (see --encoding-errors)",
}


def pass_over(letter: DeadLetter) -> None:
    """Forget a bad record: another reading reports it."""


@dataclass(frozen=True)
class RecordRules:
    """Which text a file's records hold, and what becomes of records without it.

    Attributes:
        name: of the file, for errors.
        field: of the record, that holds the text.
        encoding_errors: "fail" ends the run at any bad record; "replace" puts U+FFFD for bad bytes; else, and
            where there is nothing to replace, the record is set aside.
        set_aside: takes the bad records, in the file's order.
        items: the field holds a list of ready tokens, not text.
    """

    name: str
    field: str
    encoding_errors: str
    set_aside: Callable[[DeadLetter], None] = pass_over
    items: bool = False


def record_rules(file: InputFile, config: Config, set_aside: Callable[[DeadLetter], None] = pass_over) -> RecordRules:
    items = config.tokenizer == ITEMS
    return RecordRules(storage.redact(file.uri), config.text_field, config.encoding_errors, set_aside, items)


class BadRecordError(Exception):
    """A record has no text; the message is the dead letter's reason."""


def read_jsonl(blocks: Iterable[bytes], rules: RecordRules, offset: int = 0) -> Iterator[bytes]:
    """Yield the text of JSON lines, in blocks of any size; lines of white space alone are no records.

    The blocks are whole lines, from ``offset`` of the file on; only the last one may lack its line feed.

    Raises:
        InputError: a bad record under "fail", or a line that is too long for a record.
    """
    for place, lines in _whole_lines(blocks, rules.name, offset):
        text = (_read_good_lists if rules.items else _read_good_lines)(lines, rules.field)
        yield _read_each_line(lines, place, rules) if text is None else text


def _whole_lines(blocks: Iterable[bytes], name: str, offset: int) -> Iterator[tuple[int, bytes]]:
    """Yield ``(offset, whole lines)``, each line ended by a line feed; a byte-order mark is left out."""
    size, pieces = 0, list[bytes]()
    for block in blocks:
        cut = block.rfind(b"\n") + 1
        pieces.append(block[:cut] if cut else block)
        size += len(pieces[-1])
        if size > MAX_RECORD_BYTES:
            _require_short_lines(b"".join(pieces), offset, name)
        if cut:
            yield _without_mark(offset, b"".join(pieces))
            offset, pieces = offset + size, [block[cut:]]
            size = len(block) - cut
    if size > MAX_RECORD_BYTES:
        _require_short_lines(b"".join(pieces), offset, name)
    if size:
        yield _without_mark(offset, b"".join(pieces) + b"\n")


def _require_short_lines(lines: bytes, offset: int, name: str) -> None:
    for line in lines.split(b"\n"):
        if len(line) > MAX_RECORD_BYTES:
            raise InputError(
                f"{name}: record at byte {offset}: found more than {MAX_RECORD_BYTES >> 20} MiB, "
                "expected one JSON object a line"
            )
        offset += len(line) + 1


def _without_mark(offset: int, lines: bytes) -> tuple[int, bytes]:
    return (len(BOM), lines[len(BOM) :]) if offset == 0 and lines.startswith(BOM) else (offset, lines)


def _read_good_lines(lines: bytes, field: str) -> bytes | None:
    """Return the text of records that are all good, None where one is not: the way for nearly every block."""
    try:
        texts = [_parse_json(line)[field] for line in lines.decode("utf-8").split("\n")[:-1]]
        return "\n".join([*texts, ""]).encode("utf-8")
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def _read_good_lists(lines: bytes, field: str) -> bytes | None:
    """Return the lines of records that are all good lists, None where one is not."""
    try:
        lists = [_parse_items(line)[field] for line in lines.decode("utf-8").split("\n")[:-1]]
        return b"".join([line_of_list(one, replace=False) + b"\n" for one in lists])
    except (ValueError, LookupError, TypeError, RecursionError, BadRecordError):
        return None


def line_of_list(items: object, replace: bool) -> bytes:
    """Return a list of strings as a line.

    Raises:
        BadRecordError: it is no list, or holds something else or an empty string; half of a surrogate pair, unless
            ``replace`` puts U+FFFD for it.
    """
    if not isinstance(items, list):
        raise BadRecordError("no-list-field")
    if not all(items):
        raise BadRecordError("invalid-item")
    try:
        return join_items([_SURROGATE.sub("\ufffd", item) for item in items] if replace else items)
    except UnicodeEncodeError:
        raise BadRecordError("invalid-utf-8") from None
    except TypeError:
        raise BadRecordError("invalid-item") from None


def _read_each_line(lines: bytes, offset: int, rules: RecordRules) -> bytes:
    texts = []
    for line in lines.split(b"\n")[:-1]:
        try:
            if line.strip(b" \t\r"):
                texts.append(_text_of_line(line, rules) + b"\n")
        except BadRecordError as error:
            reject(DeadLetter(offset, str(error), line), "byte", rules)
        offset += len(line) + 1
    return b"".join(texts)


def _text_of_line(line: bytes, rules: RecordRules) -> bytes:
    replace = rules.encoding_errors == "replace"
    try:
        parse = _parse_items if rules.items else _parse_json
        record = parse(line.decode("utf-8", "replace" if replace else "strict"))
    except UnicodeDecodeError:
        raise BadRecordError("invalid-utf-8") from None
    except (ValueError, RecursionError):
        raise BadRecordError("invalid-json") from None
    text = record.get(rules.field) if isinstance(record, dict) else None
    if rules.items:
        return line_of_list(text, replace)
    if not isinstance(text, str):
        raise BadRecordError("no-text-field")
    try:  # JSON can spell half of a surrogate pair, which is no character
        return (_SURROGATE.sub("\ufffd", text) if replace else text).encode("utf-8")
    except UnicodeEncodeError:
        raise BadRecordError("invalid-utf-8") from None


def reject(letter: DeadLetter, unit: str, rules: RecordRules) -> None:
    """Set a record aside.

    Raises:
        InputError: the policy is "fail".
    """
    if rules.encoding_errors == "fail":
        message = _FOUND[letter.reason].format(field=rules.field)
        raise InputError(f"{rules.name}: record at {unit} {letter.offset}: {message}")
    rules.set_aside(letter)
