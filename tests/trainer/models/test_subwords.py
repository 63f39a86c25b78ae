"""Models with subwords: a third file, which is part of the version and opened by who needs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from pipeline.dataset.schema import FormatError, canonical_json, sha256_hex
from tests.support.subword_models import RULE, WORDS, make_subword_model
from tests.trainer.models.test_store import make_model
from trainer.evaluation.align import align
from trainer.models.mapped import map_model
from trainer.models.store import Model, load_model, save_model, stage_model
from trainer.subwords.ngrams import Subwords, compose
from trainer.subwords.table import SubwordTable
from trainer.versions.rollback import roll_back

FILES = {"model.safetensors", "subwords.safetensors", "vocab.parquet", "model.json", "run.json"}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(str(tmp_path / "m"), make_subword_model(), {})
    return tmp_path / "m"


def folder_of(model: Path) -> Path:
    (found,) = (model / "versions").iterdir()
    return found


def rewrite(model: Path, **changes: Any) -> None:
    """Change model.json, and make the pointer agree with it."""
    path = folder_of(model) / "model.json"
    path.write_bytes(canonical_json(json.loads(path.read_bytes()) | changes))
    pointer = json.loads((model / "LATEST.json").read_bytes()) | {"model_sha256": sha256_hex(path.read_bytes())}
    (model / "LATEST.json").write_bytes(canonical_json(pointer))


def replace_rows(model: Path, data: bytes) -> None:
    path = folder_of(model) / "subwords.safetensors"
    path.write_bytes(data)
    files = json.loads((path.parent / "model.json").read_bytes())["files"]
    rewrite(model, files=files | {path.name: {"bytes": len(data), "sha256": sha256_hex(data)}})


def rows_of(model: Model) -> np.ndarray:
    assert model.subwords is not None
    return model.subwords.rows_RD


@pytest.mark.parametrize("opened", [load_model, map_model])
def test_loaded_is_what_was_saved(saved: Path, opened: Callable[[str], Model]) -> None:
    model, found = make_subword_model(), opened(str(saved))
    assert {path.name for path in folder_of(saved).iterdir()} == FILES
    assert found.subwords is not None
    assert found.subwords.rule == RULE
    np.testing.assert_array_equal(rows_of(found), rows_of(model))
    np.testing.assert_array_equal(found.input_VD, model.input_VD)
    np.testing.assert_array_equal(compose(rows_of(found), *RULE.parts(WORDS)), model.input_VD)


def test_rows_are_the_files_pages(saved: Path) -> None:
    assert not rows_of(load_model(str(saved))).flags.owndata
    assert not rows_of(map_model(str(saved))).flags.writeable


def test_its_name_follows_from_the_rows_and_the_rule(tmp_path: Path) -> None:
    model = make_subword_model()
    other = rows_of(model).copy()
    other[-1, -1] += 1
    rules = [SubwordTable(RULE, other), SubwordTable(Subwords(2, 6, 50), rows_of(model)), None]
    models = [model, *(replace(model, subwords=subwords) for subwords in rules)]
    assert len({save_model(str(tmp_path), one, {}) for one in models}) == 4
    assert save_model(str(tmp_path), make_subword_model(), {}) == save_model(str(tmp_path / "n"), model, {})


def test_a_model_without_them_is_stored_as_it_was(tmp_path: Path) -> None:
    assert save_model(str(tmp_path), make_model(), {}) == "4527733694efeadb", "expected the bytes of older versions"
    files = {path.name: sha256_hex(path.read_bytes()) for path in folder_of(tmp_path).iterdir()}
    assert files.keys() == FILES - {"subwords.safetensors"}
    assert json.loads((folder_of(tmp_path) / "model.json").read_bytes()).keys() == {
        "config", "files", "format_version", "lineage", "metrics", "version",
    }  # fmt: skip
    assert load_model(str(tmp_path)).subwords is None


@pytest.mark.parametrize("damage", ["gone", "short", "flipped"])
def test_a_damaged_file_is_found_by_who_needs_it_and_written_again(saved: Path, damage: str) -> None:
    path = folder_of(saved) / "subwords.safetensors"
    whole = path.read_bytes()
    other = {"short": whole[:-1], "flipped": whole[:-1] + bytes([whole[-1] ^ 1])}
    path.unlink() if damage == "gone" else path.write_bytes(other[damage])
    expected = {"gone": "no file", "short": f"{len(whole) - 1} bytes", "flipped": "SHA-256"}[damage]
    for found in (map_model(str(saved)), load_model(str(saved))):
        with pytest.raises(FormatError, match=rf"subwords\.safetensors: found {expected}"):
            rows_of(found)
    with pytest.raises(FormatError, match=r"subwords\.safetensors"):
        roll_back(str(saved), folder_of(saved).name)
    save_model(str(saved), make_subword_model(), {})
    assert path.read_bytes() == whole
    roll_back(str(saved), folder_of(saved).name)


def test_unverified_rows_are_not_read(saved: Path) -> None:
    path = folder_of(saved) / "subwords.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + np.float32(5).tobytes())
    assert rows_of(map_model(str(saved), verify=False))[-1, -1] == 5


def test_rows_of_another_shape_or_kind(saved: Path) -> None:
    rows_RD = rows_of(make_subword_model())
    for data, found in (
        (save({"rows": rows_RD[:-1]}), r"found rows float32 \(60, 6\), expected float32 \(61, 6\)"),
        (save({"rows": rows_RD.astype(np.float64)}), r"found rows float64"),
        (save({"input": rows_RD}), r"found the tensors \['input'\], expected \['rows'\]"),
    ):
        replace_rows(saved, data)
        with pytest.raises(FormatError, match=found):
            rows_of(map_model(str(saved)))


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ({"shortest": 6, "longest": 3, "buckets": 50}, "subwords: found 6-3, expected MIN-MAX"),
        ({"shortest": 3, "longest": 6, "buckets": 0}, "subwords: found 0 buckets"),
        ({"shortest": 3, "longest": 6}, "subwords: Object missing required field buckets"),
        ({"shortest": "3", "longest": 6, "buckets": 50}, "subwords.shortest: found str, expected int"),
    ],
)
def test_no_rule(saved: Path, rule: dict[str, Any], found: str) -> None:
    rewrite(saved, subwords=rule)
    with pytest.raises(FormatError, match=f"model.json: {found}"):
        map_model(str(saved))


def test_the_rule_and_the_file_come_together(saved: Path, tmp_path: Path) -> None:
    files = json.loads((folder_of(saved) / "model.json").read_bytes())["files"]
    rewrite(saved, files={name: entry for name, entry in files.items() if name != "subwords.safetensors"})
    with pytest.raises(FormatError, match=r"expected \['model.safetensors', 'subwords.safetensors', 'vocab.parquet'\]"):
        map_model(str(saved))
    save_model(str(tmp_path / "n"), make_model(), {})
    rewrite(tmp_path / "n", files=files)
    with pytest.raises(FormatError, match=r"expected \['model.safetensors', 'vocab.parquet'\]"):
        map_model(str(tmp_path / "n"))


def test_what_does_not_fit_is_not_saved(tmp_path: Path) -> None:
    model = make_subword_model()
    rows_RD = rows_of(model).copy()
    rows_RD[-1, 0] = np.inf
    for rows, found in ((rows_RD, "NaN or Inf in the rows of subwords"), (rows_RD[1:], r"\(60, 6\)")):
        with pytest.raises(FormatError, match=found):
            save_model(str(tmp_path), replace(model, subwords=SubwordTable(RULE, rows)), {})
    assert not any(tmp_path.iterdir())


def test_a_version_goes_with_all_its_files(tmp_path: Path) -> None:
    for seed in range(3):
        last = save_model(str(tmp_path), make_subword_model(seed=seed), {}, keep=1)
    assert [path.name for path in (tmp_path / "versions").iterdir()] == [last]
    left = tmp_path / "versions" / "00112233445566aa"
    left.mkdir()
    (left / "subwords.safetensors").write_bytes(b"half")
    save_model(str(tmp_path), make_subword_model(), {})
    assert not left.exists(), "expected what a killed publisher left to go"


def test_from_one_folder_to_another(saved: Path, tmp_path: Path) -> None:
    version, _ = stage_model(str(tmp_path / "n"), load_model(str(saved)), {})
    assert version == folder_of(saved).name
    copied = folder_of(tmp_path / "n") / "subwords.safetensors"
    assert copied.read_bytes() == (folder_of(saved) / "subwords.safetensors").read_bytes()


def test_an_aligned_model_is_turned_with_its_rows() -> None:
    new, old = make_subword_model(), make_subword_model(seed=1)
    turned, words = align(new, old, 100)
    assert words == len(WORDS)
    assert not np.allclose(turned.input_VD, new.input_VD)
    np.testing.assert_allclose(compose(rows_of(turned), *RULE.parts(WORDS)), turned.input_VD, atol=1e-5)


def test_words_that_are_not_in_the_vocabulary() -> None:
    table = make_subword_model().subwords
    assert table is not None
    rows = RULE.unseen("walking", len(WORDS))
    found = table.vector("walking")
    assert found is not None
    np.testing.assert_allclose(found, table.rows_RD[rows].astype(np.float64).mean(axis=0), atol=1e-6)
    assert SubwordTable(Subwords(5, 6, 50), table.rows_RD).vector("ab") is None
