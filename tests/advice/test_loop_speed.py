"""The time of a step in the real training loop: what is run, what is left out, what is told."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from rightbatch.advice.ground import Ground
from rightbatch.advice.loop_speed import measure_loop
from rightbatch.advice.stopwatch import SpeedProgress
from rightbatch.advice.timing import Speed
from rightbatch.loading.parts import Parts
from rightbatch.training.options import FitOptions


class Counting(nn.Module):
    """A linear layer that notes the batches it learns from, and has room for so many samples."""

    seen: list[int] = []  # noqa: RUF012 - copies of the module share it

    def __init__(self, room: int = 10**9) -> None:
        super().__init__()
        self.layer = nn.Linear(30, 1)
        self.room = room

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            if len(inputs) > self.room:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            self.seen.append(len(inputs))
        return self.layer(inputs)


@pytest.fixture
def counting() -> type[Counting]:
    Counting.seen.clear()
    return Counting


def options() -> FitOptions:
    return FitOptions(learning_rate=0.1, threads=1)


def test_every_size_is_run_in_rounds(cancer: Parts, counting: type[Counting]) -> None:
    told: list[SpeedProgress] = []
    before = threading.active_count()
    speed = measure_loop(
        Ground(counting(), cancer, options()),
        [4, 32, 364],
        seconds=0.2,
        until_saturated=False,
        progress=told.append,
    )
    assert [point.batch_size for point in speed.points] == [4, 32, 364]
    assert speed.mode == "loop"
    # Where readings are slow, on a busy machine, there are fewer rounds.
    assert speed.rounds >= 1
    assert told[-1].rounds == speed.rounds
    for point in speed.points:
        assert point.low <= point.seconds_per_sample <= point.high
    # 364 is 91 batches of 4, and leaves 12 beside eleven of 32.
    assert {4, 32, 12, 364} <= set(counting.seen)
    assert speed.loading_seconds_per_sample is not None
    assert speed.fit is not None
    assert Speed.from_json(speed.to_json()) == speed
    assert threading.active_count() == before


def test_a_size_without_room_is_left_out_and_told(cancer: Parts, counting: type[Counting]) -> None:
    speed = measure_loop(
        Ground(counting(room=50), cancer, options()), [8, 32, 128, 364], seconds=0.1
    )
    assert [point.batch_size for point in speed.points] == [8, 32]
    assert any("128 does not fit in memory" in note for note in speed.notes)


def test_larger_batches_than_memory_holds_are_cut(cancer: Parts, counting: type[Counting]) -> None:
    ground = Ground(counting(room=50), cancer, options())
    ground.most_together = 32
    speed = measure_loop(ground, [32, 128], seconds=0.1)
    assert [point.batch_size for point in speed.points] == [32, 128]
    assert max(counting.seen) == 32
