"""The memory of several ranks: who has least room, and the cap of the global batch."""

from __future__ import annotations

import pytest

from rightbatch.advice.memory import Memory, MemoryPoint
from rightbatch.advice.memory_law import Loader, fit_memory
from rightbatch.advice.memory_limit import Room, find_limit
from rightbatch.advice.rank_memory import of_global_batches, room_of, shares_of
from rightbatch.free_memory import Limit

GIB = 1 << 30


def place(host: str, free_bytes: int | None) -> dict[str, object]:
    free = None if free_bytes is None else {"bytes": free_bytes, "source": f"free on {host}"}
    return {"host": host, "free": free}


def test_ranks_of_one_machine_share_what_is_free_there() -> None:
    room = room_of([place("one", 8 * GIB), place("one", 8 * GIB)])
    assert room == Room(free=Limit(bytes=8 * GIB, source="free on one"), processes=2)
    limit = find_limit(None, room, loaded_bytes=GIB)
    assert limit is not None
    assert limit.bytes == GIB + int(8 * GIB * 0.9) // 2
    assert limit.source == "free on one, less 10%, shared by 2 processes"


def test_the_rank_with_least_room_counts() -> None:
    # Three quarters of the large machine are not less than all of the small one.
    room = room_of([place("large", 16 * GIB)] * 4 + [place("small", 3 * GIB)])
    assert room.free is not None
    assert (room.free.source, room.processes) == ("free on small", 1)
    crowded = room_of([place("large", 16 * GIB)] * 8 + [place("small", 3 * GIB)])
    assert crowded.free is not None
    assert (crowded.free.source, crowded.processes) == ("free on large", 8)


def test_where_a_machine_tells_nothing_the_others_count() -> None:
    room = room_of([place("mute", None), place("one", GIB), place("one", GIB)])
    assert room.free == Limit(bytes=GIB, source="free on one")
    assert room_of([place("mute", None)] * 3) == Room(free=None, processes=3)
    assert find_limit(None, Room(free=None, processes=3)) is None


def test_a_given_limit_is_that_of_each_rank_and_no_more_than_its_part() -> None:
    room = room_of([place("one", 8 * GIB)] * 4)
    given = find_limit(2 * GIB, room, loaded_bytes=GIB)
    assert given == Limit(bytes=2 * GIB, source="given")
    cut = find_limit(6 * GIB, room, loaded_bytes=GIB)
    assert cut is not None
    assert cut.bytes == GIB + int(8 * GIB * 0.9) // 4
    # A probe runs beside all ranks, and must not take more than there is.
    assert find_limit(None, room, loaded_bytes=90 * GIB).bytes == int(8 * GIB * 0.9)  # type: ignore[union-attr]


def test_one_process_has_the_limit_that_it_had_before() -> None:
    room = Room(free=Limit(bytes=1000, source="free on this machine"))
    assert find_limit(None, room, loaded_bytes=77) == find_limit(None, room)
    assert find_limit(None, room) == Limit(bytes=900, source="free on this machine, less 10%")


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_the_law_of_a_share_becomes_that_of_the_global_batch(world_size: int) -> None:
    loader = Loader(sample_bytes=4000, samples=10**9, slabs=5, slab_bytes=1 << 20)
    sizes = [10, 100, 400]
    needed = [30e6 + 5e4 * size + loader.bytes(size) for size in sizes]
    fit = fit_memory(sizes, needed, held_bytes=[1.2 * value for value in needed], loader=loader)
    memory = Memory(
        cap=400,
        limit_bytes=GIB,
        limit_source="given",
        loaded_bytes=GIB // 4,
        measured=[MemoryPoint(batch_size=size, bytes=1, held_bytes=2) for size in sizes],
        fit=fit,
        evaluation_batch_size=512,
    )
    whole = of_global_batches(
        memory, world_size, batch_sizes=[64, 320], samples=400 * world_size - 1
    )
    assert whole.cap == 400 * world_size - 1
    assert whole.fit is not None
    for share in (7, 10, 64, 400):
        assert whole.fit.bytes(share * world_size) == pytest.approx(fit.bytes(share), abs=2)
        assert whole.fit.high(share * world_size) == pytest.approx(fit.high(share), abs=2)
    assert [point.batch_size for point in whole.measured[:2]] == [10 * world_size, 100 * world_size]
    assert [point.batch_size for point in whole.predicted] == [64, 320]
    assert whole.evaluation_batch_size == 512
    assert Memory.from_json(whole.to_json()) == whole


def test_a_rank_is_probed_at_the_shares_of_the_sizes() -> None:
    assert shares_of([1, 2, 4, 100, 101], 4) == [1, 25, 26]
