"""The pointer's history, rollback and the list of versions: pure functions first, then the commands."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset.schema import FormatError, canonical_json
from pipeline.storage.storage import PointerMovedError
from tests.trainer.models.test_store import make_model
from trainer.cli import main
from trainer.errors import UserError
from trainer.models import pointer
from trainer.models.pointer import Pointer, advance, read_pointer, retreat
from trainer.models.staging import remove_version, staged_version
from trainer.models.store import load_model, save_model, stage_model
from trainer.versions.rollback import roll_back


def names_of(*seeds: int) -> list[str]:
    """What versions are called follows from what is in them."""
    with tempfile.TemporaryDirectory() as folder:
        return [save_model(folder, make_model(seed), {}) for seed in seeds]


V1, V2, V3, V4 = NAMES = names_of(0, 1, 2, 4)


@pytest.fixture
def model(tmp_path: Path) -> str:
    for seed in range(3):
        assert save_model(str(tmp_path / "m"), make_model(seed), {"data_run": f"run-{seed + 1}"}) == NAMES[seed]
    return str(tmp_path / "m")


def history(uri: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    found = read_pointer(uri)
    assert found is not None
    return found.version, found.previous, found.withdrawn


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), max_size=30))
def test_a_version_has_one_place_whatever_happens(steps: list[tuple[bool, int]]) -> None:
    found = advance(None, "v0", "0")
    seen = {"v0"}
    for back, number in steps:
        if back and found.previous:
            target = found.previous[number % len(found.previous)]
            newer = (found.version, *found.previous[: found.previous.index(target)])
            found = retreat(found, target, "0")
            assert set(newer) <= set(found.withdrawn)
        else:
            target, before = f"v{number}", found.version
            found = advance(found, target, "0")
            assert found.previous[:1] == ((before,) if before != target else found.previous[:1])
        seen.add(target)
        assert found.version == target
        places = [found.version, *found.previous, *found.withdrawn]
        assert sorted(places) == sorted(seen)


def test_a_first_version_is_all_that_its_pointer_names(tmp_path: Path) -> None:
    save_model(str(tmp_path), make_model(), {})
    assert sorted(json.loads((tmp_path / "LATEST.json").read_bytes())) == ["format_version", "model_sha256", "version"]


def test_back_further_back_and_forward(model: str) -> None:
    assert history(model) == (V3, (V2, V1), ())
    assert roll_back(model) == {"model": model, "version": V2, "before": V3}
    assert history(model) == (V2, (V1,), (V3,))
    assert load_model(model).info["version"] == V2
    roll_back(model)
    assert history(model) == (V1, (), (V2, V3))
    with pytest.raises(UserError, match=f"no version before {V1}"):
        roll_back(model)
    roll_back(model, V3)
    assert history(model) == (V3, (V1,), (V2,))
    before = Path(model, "LATEST.json").read_bytes()
    assert roll_back(model, V3)["before"] == V3
    assert Path(model, "LATEST.json").read_bytes() == before


def test_a_damaged_or_missing_version_is_not_gone_back_to(model: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no version 'v9'"):
        roll_back(model, "v9")
    with pytest.raises(FormatError, match="found the file name"):
        roll_back(model, "../m")
    path = Path(model, "versions", V2, "model.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match=r"model\.safetensors"):
        roll_back(model)
    assert history(model)[0] == V3
    with pytest.raises(UserError, match="no live version"):
        roll_back(str(tmp_path / "none"))


def test_a_pointer_that_moved_meanwhile_wins(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    swap = pointer.swap

    def late(uri: str, before: Pointer, after: Pointer) -> None:
        save_model(uri, make_model(4), {})
        swap(uri, before, after)

    monkeypatch.setattr("trainer.versions.rollback.swap", late)
    with pytest.raises(PointerMovedError):
        roll_back(model)
    assert history(model) == (V4, (V3, V2, V1), ())


def test_a_staged_version_is_not_live_until_it_is_named(model: str) -> None:
    version, sha256 = stage_model(model, make_model(4), {})
    assert version == V4
    staged = staged_version(model, V4)
    assert staged is not None
    assert (staged[0]["version"], staged[1]) == (V4, sha256)
    assert history(model)[0] == V3
    remove_version(model, V4)
    assert staged_version(model, V4) is None
    assert not Path(model, "versions", V4).exists()


@pytest.mark.parametrize("fields", [{"previous": V1}, {"previous": ["../x"]}, {"withdrawn": [3]}])
def test_a_damaged_history_is_refused(model: str, fields: dict[str, object]) -> None:
    path = Path(model, "LATEST.json")
    path.write_bytes(canonical_json(json.loads(path.read_bytes()) | fields))
    with pytest.raises(FormatError, match=r"LATEST\.json: .*found "):
        read_pointer(model)


def test_the_commands(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "--model", model]) == 0
    assert f"version {V2} in" in capsys.readouterr().out
    assert main(["versions", "--model", model, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["versions"]
    assert [(one["version"], one["state"], one["live"], one["run"]) for one in found] == [
        (V2, "live", True, "run-2"), (V1, "previous", False, "run-1"), (V3, "rolled back", False, "run-3"),
    ]  # fmt: skip
    assert all(one["at"] and one["dataset_id"] == "d" for one in found)
    assert main(["versions", "--model", model]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [f"* {V2}", "", ""]
    assert [line[2:18] for line in lines] == [V2, V1, V3]
    assert main(["versions", "--model", f"{model}/none"]) == 1
    assert "no version" in capsys.readouterr().err
    for version, seed in ((V3, 2), (V1, 0), ("", 1)):
        words = ["--version", version] if version else []
        to = Path(model, f"out-{version}.txt")
        assert main(["export", "--model", model, "--format", "word2vec", "--to", str(to), *words]) == 0
        first = [float(number) for number in to.read_text().splitlines()[1].split()[1:]]
        assert first == pytest.approx(make_model(seed).input_VD[0].tolist(), rel=1e-5)
