"""Retraining with text, dataset and model in an object store, where a lease stands for the lock."""

from __future__ import annotations

import itertools
import json

import msgspec
import pytest

from tests.e2e.test_nights import GROWN, planted
from tests.e2e.test_text_to_vectors import TOPICS

pytest.importorskip("moto.server")

import boto3

from pipeline.storage import storage
from tests.e2e.test_object_store import bucket  # noqa: F401  (a fixture)
from trainer.cli import main
from trainer.models import lease
from trainer.models.lease import LEASE, Busy, Holder, Lease, hold
from trainer.models.store import load_model
from trainer.retraining.state import TRAINING

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")]


def renew(uri: str) -> None:
    """Do what the holder's thread does now and then."""
    Lease(uri=uri, holder=msgspec.json.decode(storage.read_bytes(uri), type=Holder)).renew()


def keys(prefix: str) -> list[str]:
    listed = boto3.client("s3").list_objects_v2(Bucket="pairs", Prefix=prefix).get("Contents", [])
    return [entry["Key"] for entry in listed]


def test_two_nights_and_a_way_back(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    root = f"{bucket}/nights"
    words = ["retrain", "--input", f"{root}/text/*", "--data", f"{root}/data", "--model", f"{root}/model", "--dim", "8"]
    words += ["--checkpoint-pairs", "1000", "--quiet", "--json", "--threads", "1", "--min-overlap", "0"]
    words += ["--min-cosine", "0", "--lease-minutes", "1", "--", "--min-count", "1"]

    def retrain(status: int = 0) -> dict[str, object]:
        assert main(words) == status
        found: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return found

    storage.write_bytes(f"{root}/text/1.txt", planted(200, TOPICS, 1).encode())
    first = retrain()
    assert first["status"] == "published"
    assert retrain()["status"] == "nothing new"
    storage.write_bytes(f"{root}/text/2.txt", planted(100, GROWN, 2).encode())
    folder = f"{root}/model/retrain"
    with hold(f"{root}/model", folder, 600), pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "pause", lambda _: renew(f"{folder}/{LEASE}"))
        assert main(words) == 4
        assert "another retraining is running (process " in capsys.readouterr().err
    storage.write_bytes(f"{folder}/{LEASE}", b"{}")  # whose holder did not renew it itself, and cannot give it up
    second = retrain()
    assert (second["status"], second["parent"], second["files_read"]) == ("published", first["version"], 2)
    assert main(["rollback", "--model", f"{root}/model"]) == 0
    assert load_model(f"{root}/model").info["version"] == first["version"]
    assert retrain()["status"] == "nothing new"
    assert keys("nights/model/retrain/") == [f"nights/model/retrain/{name}" for name in (LEASE, "state.json")]
    assert not [key for key in keys("nights/model/") if TRAINING in key]


def test_a_lease_counts_as_long_as_it_changes(bucket: str) -> None:  # noqa: F811
    folder = f"{bucket}/leases/retrain"
    uri = f"{folder}/{LEASE}"
    with hold("m", folder, 600) as first:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lease, "pause", lambda _: renew(uri))
            with pytest.raises(Busy, match="another retraining is running"), hold("m", folder, 600):
                raise AssertionError("two hold it")
        with pytest.MonkeyPatch.context() as patch:  # each look at the clock is a minute later, and nobody renews it
            patch.setattr(lease, "pause", lambda _: None)
            patch.setattr(lease, "clock", itertools.count(0, 60).__next__)
            with hold("m", folder, 600) as second:
                second.require()
        first.lost.set()


def test_who_lost_the_lease_notices(bucket: str) -> None:  # noqa: F811
    folder = f"{bucket}/dead/retrain"
    with hold("m", folder, 0.9) as slow:
        storage.write_bytes(f"{folder}/{LEASE}", b"{}")
        with hold("m", folder, 600) as other:
            assert slow.lost.wait(60)
            with pytest.raises(Busy, match="took over the lease"):
                slow.require()
            other.require()
