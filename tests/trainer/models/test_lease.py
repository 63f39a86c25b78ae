"""The lease of an object store, with a store and clocks that the test moves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import msgspec
import pytest

from pipeline.storage import storage
from pipeline.storage.storage import PointerMovedError
from trainer.models import lease
from trainer.models.lease import Busy, Holder, Lease, hold

HOURS = 3600.0
SPAN = 120.0


class World:
    """A store of one object, and a monotonic clock that runs while somebody waits."""

    def __init__(self) -> None:
        self.now, self.content, self.there = 1000.0, b"", False
        self.meanwhile: Callable[[], None] = lambda: None

    def read(self, uri: str) -> bytes | None:
        return self.content if self.there else None

    def swap(self, uri: str, expected: bytes | None, new: bytes) -> None:
        if self.read(uri) != expected:
            raise PointerMovedError(f"{uri}: was swapped")
        self.content, self.there = new, True

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(storage, "read_pointer", made.read)
    monkeypatch.setattr(storage, "swap_pointer", made.swap)
    monkeypatch.setattr(lease, "clock", lambda: made.now)
    monkeypatch.setattr(lease, "pause", made.pause)
    return made


def left_by_another(world: World, span: float = SPAN) -> Lease:
    """The lease of a process on another machine."""
    holder = Holder("elsewhere", 7, "then", "t", span)
    world.content, world.there = holder.to_json(), True
    return Lease(uri="s3://b/k", holder=holder, renewed=world.now)


@pytest.mark.parametrize("skew", [-5 * HOURS, 0.0, 5 * HOURS])
@pytest.mark.parametrize("alive", [True, False])
def test_what_other_clocks_say_does_not_matter(
    world: World, monkeypatch: pytest.MonkeyPatch, skew: float, alive: bool
) -> None:
    held, true_time = left_by_another(world), time.time
    began = last = world.now

    def meanwhile() -> None:
        nonlocal last
        if alive and world.now - last >= SPAN / 3:
            held.renew()
            last = world.now

    world.meanwhile = meanwhile
    monkeypatch.setattr(time, "time", lambda: true_time() + skew)  # the second machine's clock
    if alive:
        with pytest.raises(Busy, match=r"is running \(process 7 on elsewhere"), hold("m", "s3://b", SPAN):
            raise AssertionError("two hold it")
        assert world.now - began <= SPAN / 3 + 2 * lease.POLL_S
        assert not held.lost.is_set()
    else:
        with hold("m", "s3://b", SPAN) as mine:
            mine.require()
            assert SPAN <= world.now - began <= SPAN + lease.POLL_S
            held.renew()  # the first one was only asleep
            assert held.lost.is_set()


def test_a_lease_counts_as_long_as_its_holder_said(world: World) -> None:
    left_by_another(world, span=10 * SPAN)
    began = world.now
    with hold("m", "s3://b", SPAN):
        assert 10 * SPAN <= world.now - began <= 10 * SPAN + lease.POLL_S


@pytest.mark.parametrize("content", [None, b"", b"{}", b"no JSON", b"[]", b'{"expires_at":0,"host":"h"}'])
def test_where_nobody_holds_it_nobody_waits(world: World, content: bytes | None) -> None:
    world.content, world.there = content or b"", content is not None
    began = world.now
    with hold("m", "s3://b", SPAN) as mine:
        mine.require()
        assert world.now == began
    assert json.loads(world.content) == {}  # given up


def test_a_lease_that_is_given_up_meanwhile_is_taken(world: World) -> None:
    left_by_another(world)
    began = world.now
    world.meanwhile = lambda: setattr(world, "content", b"{}")
    with hold("m", "s3://b", SPAN):
        assert world.now - began == lease.POLL_S


def test_of_two_that_wait_one_takes_it(world: World) -> None:
    left_by_another(world)
    before = world.swap

    def swap(uri: str, expected: bytes | None, new: bytes) -> None:
        left_by_another(world)
        before(uri, expected, new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "swap_pointer", swap)
        world.content = b"{}"
        with pytest.raises(Busy, match="process 7 on elsewhere"), hold("m", "s3://b", SPAN):
            raise AssertionError("two hold it")


def test_a_store_that_does_not_answer_for_long(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no answer")

    held = left_by_another(world)
    monkeypatch.setattr(storage, "swap_pointer", fail)
    held.renew()
    assert not held.lost.is_set()
    world.now += SPAN - 1
    held.renew()
    assert not held.lost.is_set()
    world.now += 1
    held.renew()
    assert held.lost.is_set()  # by now another one may have it
    assert capsys.readouterr().err.count("could not renew the lease, will try again: no answer") == 3


def test_a_lease_that_is_read_back_is_written_as_it_was() -> None:
    """A renewal swaps bytes: whole minutes are a number of the same type before and after."""
    written = lease._myself("token", 600).to_json()
    assert msgspec.json.decode(written, type=Holder).to_json() == written
