"""Feast with real stores: docs/feature-stores.md is run as it stands, and every number that comes back is compared.

Two versions of a model: what the stores hold after the first, after the second, and what joins find at any time.
"""

import datetime
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.dataset.vocabulary import make_vocabulary
from tests.engines import install
from tests.engines.documents import read_blocks
from tests.engines.feast_stores import FEAST, Session, postgres, redis
from trainer.keyed_vectors.vectors import Vectors
from trainer.models.store import Model, save_model
from trainer.neighbors.command import Query, find_neighbors

pytestmark = pytest.mark.engines
UTC = datetime.timezone.utc
ROWS, DIM = 2000, 48
# What is saved of the online store after which of the page's chapters.
AFTER = {"The next version": "sqlite", "Redis": "redis", "PostgreSQL, and vector search": "postgres"}
STORES = tuple(AFTER.values())
AFTER |= {"Everything again": "again", "Back to an earlier version": "back"}
# What could go wrong on the way through pandas, protobuf, SQL and Redis's keys.
ODD = ["naïve", "nai\u0308ve", "日本", "𝔘😀", "a b", " ", "line\nbreak", "tab\t", "\r", "it's", '"quoted"', "\\n"]
ODD += ["null", "nan", "None", "1", "1.0", "true", "\x00nul", "%s", "{}", "*", "a,b", "'; DROP TABLE w;", "x" * 5000]


def make_model(tokens: list[str], seed: int, magnitudes: list[int]) -> Model:
    """Random vectors, some of other magnitudes (powers of ten); both zeros and a subnormal number among the values."""
    rng = np.random.default_rng(seed)
    tables = rng.standard_normal((2, len(tokens), DIM)).astype(np.float32)
    tables[0, : len(magnitudes)] *= 10.0 ** np.array([magnitudes]).T
    tables[0, 10, :6] = [0.0, -0.0, 1e-45, 0.1, 3, 1 / 3]
    info = {"config": {}, "lineage": {}, "metrics": {}}
    return Model(tables[0], tables[1], make_vocabulary(tokens, rng.integers(1, 2**40, len(tokens)).tolist()), info)


MODELS = {
    "first": make_model([*ODD, "gone", "king", *(f"w{i}" for i in range(ROWS))], 1, [-44, -38, -30, 3, 37]),
    "second": make_model(["new", *(f"w{i}" for i in reversed(range(ROWS))), *ODD, "king"], 2, [-9, -3, 3, 9, 15]),
}
VERSIONS: dict[str, str] = {}  # what they are called, once they are saved
TOKENS = [*(MODELS["first"].vocabulary.token(i) for i in range(len(MODELS["first"].vocabulary))), "new", "never"]
QUERIES = ["king", *ODD[6:14], *(f"w{i}" for i in range(0, ROWS, 101))]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Run the page, block by block; save what the stores say on the way."""
    folder = tmp_path_factory.mktemp("feast")
    (folder / "tokens.json").write_text(json.dumps(TOKENS))
    (folder / "queries.json").write_text(json.dumps(QUERIES))
    python = install.python_env("feast", FEAST)
    with ExitStack() as stack:
        address = stack.enter_context(redis(folder))
        port, programs = stack.enter_context(postgres())
        session = Session(python, folder, [str(Path(sys.executable).parent), str(programs)])
        stack.callback(session.close)
        times = {"first": datetime.datetime.now(UTC).replace(microsecond=0) - datetime.timedelta(days=2)}
        published = {"published_at": times["first"].isoformat()}
        VERSIONS["first"] = save_model(str(folder / "model"), MODELS["first"], published)
        printed: dict[str, str] = {}
        for block in read_blocks("docs/feature-stores.md"):
            if block.heading == "The next version":
                session.run("python", "save_online('tokens.json', 'first.json')")
                VERSIONS["second"] = save_model(str(folder / "model"), MODELS["second"], {})
                run = json.loads((folder / "model/versions" / VERSIONS["second"] / "run.json").read_text())
                times["second"] = datetime.datetime.fromisoformat(run["published_at"])
            code = block.code
            code = code.replace("127.0.0.1:6379", address).replace("=5432", f"={port}")
            code = code.replace("7cebc5bf5e78d688", VERSIONS["first"])
            printed[f"{block.heading}, {block.language}"] = session.run(block.language, code)
            if block.heading == "Apply, materialise":  # beside a file that is being written
                (folder / "features" / ".half.parquet.0123456789abcdef.tmp").write_bytes(b"PAR1 half")
            if block.heading == "The next version":
                moments = [times["first"] - hour(), times["first"] + hour(), times["second"]]
                asked = [moment.isoformat() for moment in moments]
                session.run("python", f"save_joined('tokens.json', {asked}, 'offline.parquet')")
            if block.heading in AFTER and block.language == "sh":
                session.run("python", f"save_online('tokens.json', '{AFTER[block.heading]}.json')")
            if block.heading.startswith("PostgreSQL") and block.language == "python":
                session.run("python", "save_searches('queries.json', 'search.json')")
        printed["nothing"] = session.run("python", "print_definitions_error('nowhere')")
        yield SimpleNamespace(folder=folder, printed=printed, times=times, moments=moments)


def hour() -> datetime.timedelta:
    return datetime.timedelta(hours=1)


def expected_rows(*versions: str) -> dict[str, tuple[str, int, list[float]]]:
    """Version, count and vector by token, where a later version replaces an earlier one's tokens."""
    rows = {}
    for version in versions:
        model = MODELS[version]
        for row, vector in enumerate(model.input_VD.astype(np.float64).tolist()):
            rows[model.vocabulary.token(row)] = (VERSIONS[version], int(model.vocabulary.counts[row]), vector)
    return rows


def require_rows(found: dict[str, list[Any]], versions: tuple[str, ...]) -> None:
    """Every token's version, count and vector: equal bit for bit, −0.0 too, or none at all."""
    expected = expected_rows(*versions)
    known = [row for row, token in enumerate(TOKENS) if token in expected]
    assert len(known) == len(expected)
    assert found["token"] == TOKENS
    assert [found["version"][row] for row in known] == [expected[TOKENS[row]][0] for row in known]
    assert [found["count"][row] for row in known] == [expected[TOKENS[row]][1] for row in known]
    vectors = np.array([found["vector"][row] for row in known], np.float64).reshape(-1, DIM)
    table = np.array([expected[TOKENS[row]][2] for row in known], np.float64).reshape(-1, DIM)
    assert vectors.shape == (len(expected), DIM)
    np.testing.assert_array_equal(vectors.view(np.uint64), table.view(np.uint64))
    absent = set(range(len(TOKENS))) - set(known)
    assert {found[name][row] for name in ("version", "count", "vector") for row in absent} == {None}


def test_online_after_the_first_version(ran: SimpleNamespace) -> None:
    require_rows(json.loads((ran.folder / "first.json").read_text()), ("first",))


@pytest.mark.parametrize("store", STORES)
def test_online_the_newest_version_wins(store: str, ran: SimpleNamespace) -> None:
    require_rows(json.loads((ran.folder / f"{store}.json").read_text()), ("first", "second"))


def test_everything_anew_is_the_same(ran: SimpleNamespace) -> None:
    assert (ran.folder / "again.json").read_text() == (ran.folder / "postgres.json").read_text()


def test_back_to_an_earlier_version(ran: SimpleNamespace) -> None:
    require_rows(json.loads((ran.folder / "back.json").read_text()), ("second", "first"))


@pytest.mark.parametrize("store", STORES)
def test_times_are_those_of_publication(store: str, ran: SimpleNamespace) -> None:
    found = json.loads((ran.folder / f"{store}.json").read_text())
    stamps = {token: found["vector__ts"][row] for row, token in enumerate(TOKENS)}
    assert stamps["king"] == ran.times["second"].timestamp()
    assert stamps["gone"] == ran.times["first"].timestamp()


def test_joins_find_the_version_of_their_time(ran: SimpleNamespace) -> None:
    table = pq.read_table(ran.folder / "offline.parquet")
    assert str(table.schema.field("vector").type) == "list<element: float>"
    none = dict.fromkeys(table.schema.names)
    for moment, versions in zip(ran.moments, [(), ("first",), ("first", "second")], strict=True):
        rows = {row["token"]: row for row in table.to_pylist() if row["event_timestamp"] == moment}
        # Feast leaves out what has values later only.
        assert rows.keys() == expected_rows(*versions).keys() | {"never"}
        found = {name: [rows.get(token, none)[name] for token in TOKENS] for name in ("version", "count", "vector")}
        require_rows(found | {"token": TOKENS}, versions)


def neighbors(model: Model, tokens: list[str]) -> list[dict[str, Any]]:
    """Our own answers: five nearest words of each token."""
    rows = [model.vocabulary.id_of(token) for token in tokens]
    queries = [Query(token, ((row or 0, 1),), is_word=True) for token, row in zip(tokens, rows, strict=True)]
    return find_neighbors(Vectors(model), queries, 5)


def test_searches_find_our_neighbors(ran: SimpleNamespace) -> None:
    model = MODELS["second"]
    expected = neighbors(model, QUERIES)
    answers = json.loads((ran.folder / "search.json").read_text())
    assert len(answers) == len(expected) == len(QUERIES)
    for answer, entry in zip(answers, expected, strict=True):
        near = entry["neighbors"]
        assert answer["token"] == [entry["token"], *(found["token"] for found in near)]
        # Feast 0.67 lists the entities by distance, but their features in another order, the same for all of these.
        order = np.argsort(answer["distance"])
        assert [answer["count"][row] for row in order] == [entry["count"], *(found["count"] for found in near)]
        assert set(answer["version"]) == {VERSIONS["second"]}
        cosines = [1.0, *(found["cosine"] for found in near)]
        np.testing.assert_allclose(1 - np.array(answer["distance"])[order], cosines, atol=3e-6)


def test_what_the_page_prints(ran: SimpleNamespace) -> None:
    rows = expected_rows("first")
    assert ran.printed["Look up, python"].startswith(str([VERSIONS["first"]] * 2 + [None]))
    assert str(rows["king"][1]) in ran.printed["Look up, python"]
    assert str(rows["king"][2][:3]) in ran.printed["Look up, python"]
    assert ran.printed["What was known when, python"].endswith(f"  {VERSIONS['first']}\n\n[1 rows x 4 columns]\n")
    model = MODELS["second"]
    [entry] = neighbors(model, ["king"])
    nearest = [f"{found['cosine']:.3f}  {found['token']}" for found in entry["neighbors"]]
    lines = ran.printed["PostgreSQL, and vector search, python"].splitlines()
    assert lines == ["1.000  king", *nearest]


def test_without_exported_vectors_an_error_names_the_place(ran: SimpleNamespace) -> None:
    place = ran.folder / "feature_repo" / "nowhere"
    assert ran.printed["nothing"].startswith(f"error: {place}: found no exported vectors;")
