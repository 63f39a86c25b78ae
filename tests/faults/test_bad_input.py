"""Bad and odd input through the whole job: it fails as promised, or nothing of it is lost."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard

from pipeline import job
from pipeline.cli import main
from pipeline.config import Config
from pipeline.dataset.reader import Dataset, open_dataset
from pipeline.inputs import splits
from pipeline.inputs.chunks import CHUNK_BYTES, cut_chunks
from pipeline.inputs.discover import list_inputs
from pipeline.inputs.read import read_chunks
from pipeline.inputs.splits import split_text
from pipeline.publishing import publish
from pipeline.storage import storage
from tests.bench.made import token_ids
from tests.bench.made import words_of as words_of_ids
from tests.faults.test_compression import FORMATS, every_format
from tests.support.commands import TEXT, expect_failure, in_process, make_old, words_of

DATA = TEXT.encode()


def flip(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 0x20
    return bytes(changed)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "half": lambda data: data[: len(data) // 2],
    "99 %": lambda data: data[: len(data) * 99 // 100],
    "last byte": lambda data: data[:-1],
    "magic alone": lambda data: data[:6],
    "nothing": lambda data: b"",
    "flipped bit": lambda data: flip(data, len(data) // 2),
    "garbage behind": lambda data: data + b"and more",
    "second member cut": lambda data: data + data[:-9],
}


@every_format
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_streams(ending: str, damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / "good.txt").write_bytes(DATA)
    (tmp_path / "in" / f"bad.txt{ending}").write_bytes(DAMAGE[damage](FORMATS[ending](DATA)))
    expect_failure(tmp_path, in_process(words_of(tmp_path), capsys), f"{tmp_path}/in/bad.txt{ending}: found ")


@pytest.mark.parametrize(
    ("ending", "place"), [(".gz", -6), (".zst", -2), (".xz", -20), (".bz2", -3)], ids=["CRC", "XXH", "CRC64", "CRC32"]
)
def test_bad_checksums(ending: str, place: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / f"bad{ending}").write_bytes(flip(FORMATS[ending](DATA), place))
    expect_failure(tmp_path, in_process(words_of(tmp_path), capsys), f"/in/bad{ending}: found damaged ")


@pytest.mark.parametrize("name", ["a.txt", "a.gz", "a.zst", "a.parquet"])
@pytest.mark.parametrize("packed", ["plain", *FORMATS])
def test_the_name_of_a_file_says_nothing(name: str, packed: str, tmp_path: Path) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / name).write_bytes(DATA if packed == "plain" else FORMATS[packed](DATA))
    assert main(words_of(tmp_path)) == 0
    assert open_dataset(str(tmp_path / "out")).manifest.corpus.lines == 600


PARTS = [DATA[:1000], b"", DATA[1000:1001], DATA[1001:]]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_every_line_of_many_members_counts(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / "a").write_bytes(b"".join(map(pack, PARTS)))
    assert main(words_of(tmp_path)) == 0
    corpus = open_dataset(str(tmp_path / "out")).manifest.corpus
    assert (corpus.lines, corpus.bytes) == (600, len(DATA))


def test_no_file_matches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_old(tmp_path)
    line = expect_failure(tmp_path, in_process(words_of(tmp_path), capsys))
    assert line == f"--input {tmp_path}/in/*: no file matches"


def test_empty_files_among_others_are_no_text(tmp_path: Path) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / "empty.txt").touch()
    (tmp_path / "in" / "feeds.txt").write_bytes(b"\n" * 1000)
    (tmp_path / "in" / "packed.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "in" / "text.txt").write_bytes(DATA)
    assert main(words_of(tmp_path)) == 0
    dataset = open_dataset(str(tmp_path / "out"))
    assert (dataset.manifest.corpus.files, dataset.manifest.corpus.lines) == (4, 1600)
    rows = pq.read_table(dataset.path_of("inputs.parquet")).to_pylist()
    assert [(row["name"], row["lines"]) for row in rows] == [
        ("empty.txt", 0), ("feeds.txt", 1000), ("packed.gz", 0), ("text.txt", 600),
    ]  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"\n\n\r\n", b"\xef\xbb\xbf", b" \t\n" * 9], ids=str)
def test_no_text_at_all(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / "a.txt").write_bytes(content)
    expect_failure(
        tmp_path, in_process(words_of(tmp_path), capsys), "--min-count 1: no token in the input is that frequent"
    )


def run(folder: Path, output: str, **options: object) -> Dataset:
    settings = {"min_count": 1, "sample": 0.0, "max_dead_letter_fraction": 1.0, **options}
    done = job.run_job(Config((f"{folder}/in/*",), f"{folder}/{output}", **settings), ())  # type: ignore[arg-type]
    return open_dataset(f"{folder}/{output}", done.run_id)


def counts_of(dataset: Dataset) -> dict[str, int]:
    vocabulary = dataset.vocabulary()
    return dict(zip(vocabulary.tokens, vocabulary.counts.tolist(), strict=True))


#: "日" and what is no UTF-8, around marks of 4096 and 65536 bytes.
TORN = b"".join(
    b"x" * (4096 * n - len(odd) // 2 - 7) + b" before" + odd + b" after\n"
    for n, odd in [(1, "日".encode()), (1, b"\xe6\x97"), (16, "日日".encode()), (16, b"\xff\xfe")]
)


@pytest.mark.parametrize("policy", ["replace", "dead-letter"])
def test_bad_bytes_across_blocks(policy: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_bytes(TORN)
    options = {"encoding_errors": policy, "max_token_bytes": 1 << 20}
    datasets = [run(tmp_path, f"{size}", read_block_bytes=size, **options) for size in (1 << 20, 1, 4096, 1 << 16)]
    assert len({dataset.dataset_id for dataset in datasets}) == 1
    tokens = counts_of(datasets[0])
    assert tokens["after"] == (4 if policy == "replace" else 2)
    assert tokens["日"] == 3
    assert datasets[0].manifest.corpus.dead_letters == ({} if policy == "replace" else {"invalid-utf-8": 2})


@pytest.mark.parametrize("size", ["1", "4Ki", "64Ki", "1Mi"])
def test_bad_bytes_across_blocks_end_the_run_on_request(
    size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / "a.txt").write_bytes(TORN)
    words = words_of(tmp_path, "--encoding-errors", "fail", "--read-block-bytes", size)
    expect_failure(tmp_path, in_process(words, capsys), "/in/a.txt: chunk at byte 0: the byte 0xe6 is not valid UTF-8")


@pytest.mark.parametrize("size", [1, 4096, 1 << 16, 1 << 20])
def test_line_ends_marks_and_nuls(size: int, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    text = "\ufeffone two\r\nthree\rfour\n\rfive\ufeffsix\nse\0ven eight\r"
    (tmp_path / "in" / "a.txt").write_bytes(text.encode())
    dataset = run(tmp_path, "out", read_block_bytes=size, tokenizer="whitespace", fixed_window=True)
    words = ["one", "two", "three", "four", "five\ufeffsix", "se\0ven", "eight"]
    assert counts_of(dataset) == dict.fromkeys(words, 1)
    # A CR is white space, and ends no line; NUL and a mark inside the text are characters like others.
    corpus = dataset.manifest.corpus
    assert (corpus.lines, corpus.sentences, corpus.tokens) == (4, 4, 7)


def test_composed_and_decomposed_words_have_one_id(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    words = ["été", "Ångström", "한국어", "ǖber"]
    for form in ("NFC", "NFD"):
        line = unicodedata.normalize(form, " ".join(words)) + "\n"
        (tmp_path / "in" / f"{form}.txt").write_text(line * 3, encoding="utf-8")
    tokens = counts_of(run(tmp_path, "out", tokenizer="whitespace"))
    assert tokens == {unicodedata.normalize("NFC", word.lower()): 6 for word in words}


@pytest.mark.parametrize("form", ["NFC", "NFKC"])
@pytest.mark.parametrize("marks", ["\u0301", "\u0301\u0316", "\u0f73\u0f71\u0345"], ids=ascii)
def test_very_many_combining_marks(form: str, marks: str, tmp_path: Path) -> None:
    # Sorted by their classes one by one, as many as stand in a chunk would take minutes.
    (tmp_path / "in").mkdir()
    few = "e" + marks * (3000 // len(marks))
    (tmp_path / "in" / "a.txt").write_text(f"{few} x\n" + "e" + marks * (600_000 // len(marks)) + " x\n")
    (tmp_path / "in" / "b.txt").write_text("x\n" * 1_000_000)  # or more than all would be set aside: marks grow
    dataset = run(tmp_path, "out", tokenizer="whitespace", normalize=form, max_token_bytes=100_000)
    assert counts_of(dataset) == {unicodedata.normalize(form, few).lower(): 1, "x": 1_000_002}
    assert dataset.manifest.corpus.dead_letters == {"token-too-long": 1}


def test_a_giant_token_is_set_aside_whole_across_a_chunks_mark(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    token = b"y" * (1 << 20)
    before = b"a b\n" * (150_000)  # 600 kB: the token goes over the mark at 1 MiB
    (tmp_path / "in" / "a.txt").write_bytes(before + b"c " + token + b" d\n" + before)
    dataset = run(tmp_path, "out")
    assert counts_of(dataset) == {"a": 300_000, "b": 300_000, "c": 1, "d": 1}
    [row] = pq.read_table(dataset.path_of("dead-letters/part-00000.parquet")).to_pylist()
    assert row == {"file": "a.txt", "offset": len(before), "reason": "token-too-long", "content": token}


def test_a_line_of_64_mib_is_read_in_bounded_pieces(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    line = b"word " * ((64 << 20) // 5)
    (tmp_path / "in" / "a.gz").write_bytes(gzip.compress(line, 1))
    (tmp_path / "in" / "b.txt").write_bytes(line)
    config = Config((f"{tmp_path}/in/*",), "out")
    for file in list_inputs(config.input):
        chunks, lines, largest = 0, 0, 0
        for part in split_text(file, 16 << 20):
            for chunk in read_chunks(part, config, [].append):
                assert chunk.data.split() == [b"word"] * chunk.data.count(b"w")
                chunks, lines, largest = chunks + 1, lines + chunk.lines, max(largest, len(chunk.data))
        assert (lines, chunks) == (1, len(line) // CHUNK_BYTES)
        assert largest <= 2 * CHUNK_BYTES


@pytest.fixture(scope="module")
def giant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """text8 has this shape: 9 MiB in one line; and the same text with line feeds where the job cuts it."""
    folder = tmp_path_factory.mktemp("giant")
    words = b"".join(words_of_ids(ids) for ids in token_ids(1_100_000, 30_000)).decode().split()
    words[5::7] = [f"d’{word}é" for word in words[5::7]]  # beyond ASCII as well
    data = " ".join(words).encode()
    data = data[: data.index(b" ", (9 << 20) + 100)]  # what is behind the last mark is too short to be cut there
    assert len(data) > 9 << 20
    pieces = []
    for chunk in cut_chunks([data]):
        words = chunk.data.decode().split()
        pieces += [" ".join(words[i : i + 1000]) for i in range(0, len(words), 1000)]
    lines = "\n".join(pieces).encode()
    assert len(lines) == len(data)  # line feeds for spaces move no byte
    for name, content in (("line", data), ("packed", gzip.compress(data, 1)), ("lines", lines)):
        (folder / name / "in").mkdir(parents=True)
        (folder / name / "in" / "a.txt").write_bytes(content)
    return folder


@pytest.mark.parametrize("kind", ["line", "packed"])
@pytest.mark.parametrize("options", [{"tokenizer": "whitespace"}, {"passes": 2, "sample": 1e-3, "threads": 3}], ids=str)
def test_one_line_gives_the_pairs_of_its_pieces(
    kind: str, options: dict[str, object], giant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "PART_BYTES", 2 << 20)  # the plain line is read in five parts
    options = {"max_sentence_tokens": 1000, "shard_pairs": 1 << 20, **options}
    one, many = (run(giant / name, tmp_path.name + name, **options) for name in (kind, "lines"))
    text = (giant / "line" / "in" / "a.txt").read_text(encoding="utf-8")
    counts = Counter(text.split())
    assert counts_of(one) == counts_of(many) == counts
    corpus = one.manifest.corpus
    assert (corpus.lines, corpus.tokens) == (1, counts.total())
    assert corpus.sentences == many.manifest.corpus.lines > counts.total() // 1000
    assert one.manifest.passes == many.manifest.passes
    assert [shard.digest for shard in one.shards] == [shard.digest for shard in many.shards]
    assert len(one.shards) > 2


def test_an_input_that_grows_between_the_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old(tmp_path)
    source = tmp_path / "in" / "a.txt"
    source.write_bytes(DATA * 50)
    monkeypatch.setattr(splits, "PART_BYTES", 1 << 20)  # read in parts, of which only the last one changes
    plan = publish.plan_shards

    def grow(*arguments: object) -> object:
        with source.open("ab") as file:
            file.write(b"one more line\n")
        return plan(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(publish, "plan_shards", grow)
    message = "/in/a.txt: changed between the counting and the pair pass"
    expect_failure(tmp_path, in_process(words_of(tmp_path), capsys), message)


def test_an_input_that_is_gone_when_it_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / "a.txt").write_bytes(DATA)
    make_listing = job.make_listing

    def remove(config: Config) -> object:
        listing = make_listing(config)
        (tmp_path / "in" / "a.txt").unlink()
        return listing

    monkeypatch.setattr(job, "make_listing", remove)
    message = "/in/a.txt: found No such file or directory, expected a readable file"
    expect_failure(tmp_path, in_process(words_of(tmp_path), capsys), message)


def test_a_read_that_fails_halfway(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old(tmp_path)
    (tmp_path / "in" / "a.txt").write_bytes(DATA)
    opened = storage.open_binary

    class Failing(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 4096:
                raise OSError(5, "Input/output error")
            return super().read(size) or b""

    monkeypatch.setattr(storage, "open_binary", lambda uri: (Failing if uri.endswith("a.txt") else opened)(uri))
    words = words_of(tmp_path, "--read-block-bytes", "4Ki")
    message = "/in/a.txt: found Input/output error, expected a readable file"
    expect_failure(tmp_path, in_process(words, capsys), message)
