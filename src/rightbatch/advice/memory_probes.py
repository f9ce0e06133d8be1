"""The probes of one measurement of memory: which sizes, in which order, and what follows."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from rightbatch.advice.memory import Memory, MemoryPoint, MemoryPrediction
from rightbatch.advice.memory_law import RUNS_DIFFER, Loader, MemoryFit, fit_memory
from rightbatch.advice.memory_limit import GIVEN
from rightbatch.advice.probe_client import Outcome, Prober
from rightbatch.advice.probe_pages import memory_bytes
from rightbatch.advice.probe_work import ENOUGH_SECONDS, LEAST_STEPS, ProbeRequest
from rightbatch.byte_sizes import bytes_text
from rightbatch.errors import MemoryLimitError
from rightbatch.free_memory import Limit
from rightbatch.loading.parts import Parts
from rightbatch.training.evaluate import EVALUATION_BATCH_SIZE

# The smallest size that is probed first: below, what belongs to samples is lost in the rest.
_FIRST_SHARE = 32
# Sizes of a ladder up to the largest, each half of the next.
_RUNGS = 4
_LEAST_SIZES = 3
# The shares of the time for training and evaluation; the rest is the cap's own run.
_TRAINING_SHARE, _EVALUATION_SHARE = 0.5, 0.7
_MOST_TRIES, _FINE_TRIES = 9, 3
# The share of the time that quick steps of one probe are repeated for.
_ENOUGH_SHARE = 0.08
# What a longer run comes to hold whatever its batches: its records, and small blocks that lie
# between others. After twenty epochs it was 0.3 MB for convolutions and 2.5 for a linear model.
_RECORDS_BYTES = 1_200_000
# Three batches read ahead by `fit`'s one thread, the one in hand and the one before it.
_SLABS = 5
# A probe that takes so many times what was expected of it hangs.
_PATIENCE = 5.0
_LEAST_PATIENCE_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class MemoryProgress:
    """Which probe is under way: `kind` is "training", "fit" or "evaluation"."""

    kind: str
    batch_size: int
    probes: int


MemoryWatcher = Callable[[MemoryProgress], None]


class Measurement:
    """The probes of one call, one after another, and what follows from them."""

    def __init__(
        self,
        prober: Prober,
        parts: Parts,
        sizes: list[int],
        limit: Limit | None,
        seconds: float,
        patience_seconds: float | None,
        progress: MemoryWatcher | None,
    ) -> None:
        self._prober = prober
        self._parts = parts
        self._sizes = sizes
        self._largest = sizes[-1]
        self._limit = limit
        self._seconds = seconds
        self._patience = patience_seconds
        self._progress = progress
        self._began = time.perf_counter()
        self._told: dict[str, dict[int, dict[str, Any]]] = {
            kind: {} for kind in ("training", "fit", "evaluation")
        }
        self._too_large: dict[str, int] = {}
        # It is the caller's process that will train, and it holds what a probe does not: other
        # libraries, other data. Of a given limit that is gone as well; what is free was free
        # beside it.
        self._held_bytes = 0
        self._given_bytes: int | None = None
        if limit is not None and limit.source == GIVEN and not prober.on_gpu:
            self._held_bytes = max(0, memory_bytes("VmRSS") - prober.loaded_bytes)
            self._given_bytes = limit.bytes
            self._limit = replace(limit, bytes=max(1, limit.bytes - self._held_bytes))
        # On a GPU the first probe will tell.
        self._loaded_bytes = 0 if prober.on_gpu else prober.loaded_bytes
        self._probes = 0
        self._evaluation_size = EVALUATION_BATCH_SIZE
        self._notes: list[str] = []

    def run(self) -> Memory:
        """Probe, and tell."""
        if self._limit is not None and self._limit.bytes <= self._loaded_bytes:
            raise self._nothing_fits()
        self._probe_training()
        fit = self._law("training")
        self._probe_evaluation()
        evaluation_fit = self._law("evaluation")
        evaluated = [
            size
            for size in self._told["evaluation"]
            if self._has_room(evaluation_fit, size, "evaluation")
        ]
        self._evaluation_size = self._find_evaluation_size(fit, evaluation_fit)
        cap = self._find_cap(fit, evaluation_fit)
        if self._evaluation_size < EVALUATION_BATCH_SIZE:
            self._notes.append(
                f"Memory leaves no room for validation in batches of {EVALUATION_BATCH_SIZE:,}: "
                f"give fit evaluation_batch_size={self._evaluation_size}, as the advice does."
            )
        return Memory(
            cap=cap,
            limit_bytes=self._limit_bytes,
            limit_source="unknown" if self._limit is None else self._limit.source,
            loaded_bytes=self._loaded_bytes + self._held_bytes,
            measured=self._points("training"),
            predicted=_predictions(fit, self._sizes),
            evaluation_cap=max(evaluated, default=None),
            evaluation_batch_size=self._evaluation_size,
            evaluation_measured=self._points("evaluation"),
            evaluation_predicted=_predictions(evaluation_fit, self._sizes),
            fit=fit,
            evaluation_fit=evaluation_fit,
            device=self._prober.device,
            notes=self._notes,
        )

    def _probe_training(self) -> None:
        size = max(1, self._largest // _FIRST_SHARE)
        while not self._ask("training", size):
            if size == 1:
                raise self._nothing_fits()
            size = max(1, size // 8)
        first = size
        top = self._affordable("training", _TRAINING_SHARE, at_least=min(self._largest, 4 * first))
        if top < self._largest:
            self._notes.append(
                f"Batch sizes above {top:,} were not run: they would have taken longer than the "
                f"{self._seconds:g} seconds that the measurement of memory was given."
            )
        ladder = [top >> rung for rung in range(_RUNGS)]
        for size in sorted({rung for rung in ladder if rung > 1.3 * first}):
            if not self._ask("training", size):
                break
        self._fill_in("training")

    def _fill_in(self, kind: str) -> None:
        """Probe further sizes below the first that ran out, until there are enough for a law."""
        for _ in range(2 * _LEAST_SIZES):
            known = sorted(self._told[kind])
            if len(known) >= _LEAST_SIZES or not known:
                return
            edges = [1, *known, self._too_large.get(kind, self._largest + 1)]
            gaps = [
                (b / a, round(math.sqrt(a * b)))
                for a, b in itertools.pairwise(edges)
                if a < round(math.sqrt(a * b)) < b
            ]
            free = [size for _, size in sorted(gaps, reverse=True) if size not in known]
            if 1 not in known and not free:
                free = [1]
            if not free:
                return
            self._ask(kind, free[0])

    def _find_cap(self, fit: MemoryFit | None, evaluation_fit: MemoryFit | None) -> int:
        """The largest size that was run as `fit` runs it, within the limit."""
        tested = max(self._told["training"])
        size = tested
        if fit is not None and self._limit is not None:
            top = self._affordable("training", 1.0, at_least=tested)
            size = fit.largest(self._room, at_most=top)
            size = size if size == top else _rounded(size)
        size = planned = max(1, size)
        for tries in range(_MOST_TRIES):
            if self._ask("fit", size) and self._most_bytes(size, fit) <= self._room_or_all:
                return size
            if self._is_of_validation(size, fit, evaluation_fit):
                self._evaluation_size //= 2
                self._told["fit"].clear()
                continue
            if size == 1:
                break
            shrunk = size // 2
            if size in self._told["fit"] and tries < _FINE_TRIES:
                shrunk = int(0.9 * size * min(1.0, self._room / self._most_bytes(size, fit)))
            size = max(1, _rounded(min(shrunk, size - 1)))
        if self._ask("fit", 1) and not self._made_do(self._told["fit"][1]):
            return 1
        # Smaller batches of training do not help where validation is what finds no room.
        fitting = [size for size in self._told["training"] if size <= planned]
        if self._parts.val is None or not fitting:
            raise self._nothing_fits()
        self._notes.append(
            f"Training fits at batch size {max(fitting):,}, but validation in batches of "
            f"{min(self._evaluation_size, len(self._parts.val)):,} does not fit beside even batch "
            "size 1: give more memory, or split without a validation part."
        )
        return max(fitting)

    @property
    def _limit_bytes(self) -> int | None:
        """The limit for the process in all, as it was given."""
        if self._given_bytes is not None or self._limit is None:
            return self._given_bytes
        return self._limit.bytes

    @property
    def _room(self) -> int:
        """What the limit leaves for batches."""
        assert self._limit is not None  # asked by the callers
        return self._limit.bytes - self._loaded_bytes

    @property
    def _room_or_all(self) -> float:
        return math.inf if self._limit is None else self._room

    def _most_bytes(self, size: int, fit: MemoryFit | None) -> float:
        """What a run of `size` as a whole may take, by the ways in which runs differ."""
        told = self._told["fit"][size]
        if self._limit is not None and self._made_do(told):
            return math.inf
        one_slab = self._loader(told).one_slab(size)
        most = (1 + RUNS_DIFFER) * told["held_bytes"]
        if fit is not None:
            most = max(most, fit.most_held(told["bytes"]))
        return float(most + one_slab)

    def _is_of_validation(
        self, size: int, fit: MemoryFit | None, evaluation_fit: MemoryFit | None
    ) -> bool:
        """Whether it is validation that needs more than is left, and could do with less."""
        if self._parts.val is None or self._evaluation_size == 1:
            return False
        if fit is None or evaluation_fit is None:
            told = self._told["fit"].get(size)
            return told is not None and self._made_do(told)
        return evaluation_fit.bytes(self._evaluation_size) > fit.bytes(size)

    def _find_evaluation_size(self, fit: MemoryFit | None, evaluation_fit: MemoryFit | None) -> int:
        """What validation may take at a time, beside what training makes the allocator keep."""
        val = self._parts.val
        whole = EVALUATION_BATCH_SIZE if val is None else min(EVALUATION_BATCH_SIZE, len(val))
        if self._limit is None or evaluation_fit is None:
            return EVALUATION_BATCH_SIZE
        size = whole
        while size > 1:
            held = 0.0 if fit is None else fit.most_held(evaluation_fit.bytes(size))
            if max(held, evaluation_fit.high(size)) <= self._room:
                break
            size //= 2
        return EVALUATION_BATCH_SIZE if size == whole else size

    def _probe_evaluation(self) -> None:
        top = max(self._told["training"])
        for size in sorted({max(1, top >> rung) for rung in (4, 2, 0)}):
            known = self._told["evaluation"]
            if known and self._expected("evaluation", size) > max(
                1.0, _EVALUATION_SHARE * self._seconds - self._spent()
            ):
                break
            if not self._ask("evaluation", size):
                break
        self._fill_in("evaluation")

    def _ask(self, kind: str, size: int) -> bool:
        """Probe; gives whether it fits."""
        if size in self._told[kind]:
            return True
        if self._progress is not None:
            self._progress(MemoryProgress(kind=kind, batch_size=size, probes=self._probes))
        self._probes += 1
        steps = None
        if kind == "fit" and self._told["training"]:
            # As many as show what read-ahead and validation hold, where they are quick.
            is_slow = 2 * self._expected("training", size) > max(1.0, self._seconds / 8)
            steps = LEAST_STEPS if is_slow else None
        outcome = self._prober.ask(
            ProbeRequest(
                kind=kind,
                batch_size=size,
                steps=steps,
                limit_bytes=None if self._limit is None else self._limit.bytes,
                timeout_seconds=self._patience
                or max(
                    _LEAST_PATIENCE_SECONDS,
                    2 * self._seconds,
                    _PATIENCE * self._expected("training", size),
                ),
                enough_seconds=min(ENOUGH_SECONDS, _ENOUGH_SHARE * self._seconds),
                evaluation_batch_size=self._evaluation_size,
            )
        )
        return self._note(kind, size, outcome)

    def _note(self, kind: str, size: int, outcome: Outcome) -> bool:
        told = outcome.told
        if told is not None:
            self._loaded_bytes = told["loaded_bytes"]
            own, limit = told["limit_bytes"], self._limit
            # A GPU's, which cuts down what was given.
            if own is not None and (limit is None or (limit.source == GIVEN and own < limit.bytes)):
                self._limit = Limit(bytes=own, source=told["limit_source"])
            if is_within(told, self._limit):
                self._told[kind][size] = told
                return True
        self._too_large[kind] = min(size, self._too_large.get(kind, size))
        how = outcome.reason or f"it took {bytes_text(told['held_bytes'] if told else 0)}"
        self._notes.append(f"Batch size {size:,} ({kind}) does not fit: {how}.")
        return False

    def _made_do(self, told: dict[str, Any]) -> bool:
        """Whether validation has come down to smaller batches for lack of memory."""
        size: int | None = told.get("validation_batch_size")
        asked = min(self._evaluation_size, len(self._parts.val or ()))
        return size is not None and size < asked

    def _expected(self, kind: str, size: int) -> float:
        """Seconds that a probe of that size will take, from the largest one so far."""
        known = self._told[kind] or self._told["training"]
        if not known:
            return 0.0
        steps = LEAST_STEPS if kind != "evaluation" else 2
        return float(known[max(known)]["seconds_per_sample"]) * size * steps

    def _affordable(self, kind: str, share: float, *, at_least: int) -> int:
        """The largest size that there is time for; the sizes of a ladder take twice its own."""
        left = self._seconds * share - self._spent()
        expected = 2 * self._expected(kind, self._largest)
        if expected <= left:
            return self._largest
        return max(at_least, _rounded(int(self._largest * max(0.0, left) / expected)))

    def _spent(self) -> float:
        return time.perf_counter() - self._began

    def _loader(self, told: dict[str, Any]) -> Loader:
        return Loader(
            sample_bytes=told["sample_bytes"],
            samples=len(self._parts.train),
            slabs=_SLABS,
            slab_bytes=told["slab_bytes"],
        )

    def _law(self, kind: str) -> MemoryFit | None:
        told = self._told[kind]
        if len(told) < 2:
            return None
        sizes = sorted(told)
        more = _RECORDS_BYTES if kind == "training" else 0
        return fit_memory(
            sizes,
            [told[size]["bytes"] + more for size in sizes],
            held_bytes=[told[size]["held_bytes"] + more for size in sizes],
            loader=self._loader(told[sizes[0]]),
        )

    def _has_room(self, fit: MemoryFit | None, size: int, kind: str) -> bool:
        if self._limit is None:
            return True
        most = self._told[kind][size]["held_bytes"]
        if fit is not None:
            most = max(most, fit.high(size))
        return bool(self._loaded_bytes + most <= self._limit.bytes)

    def _points(self, kind: str) -> list[MemoryPoint]:
        told = self._told[kind]
        return [
            MemoryPoint(
                batch_size=size, bytes=told[size]["bytes"], held_bytes=told[size]["held_bytes"]
            )
            for size in sorted(told)
        ]

    def _nothing_fits(self) -> MemoryLimitError:
        if self._limit is None:
            # Of a GPU, whose own limit the first probe would have told.
            return MemoryLimitError(
                f"training does not fit on {self._prober.device} even at batch size 1: end what "
                "else is running there, or take a smaller model or data"
            )
        limit = bytes_text(self._limit_bytes or 0)
        loaded = self._loaded_bytes + self._held_bytes
        before = (
            f"libraries, model and data take {bytes_text(loaded)} before the first batch. "
            if loaded
            else ""
        )
        return MemoryLimitError(
            f"training does not fit in {limit} ({self._limit.source}) even at batch size 1: "
            f"{before or 'not even the first batch found room. '}Give more memory "
            "(memory_limit, --memory-limit), or take a smaller model or data"
        )


def is_within(told: dict[str, Any], limit: Limit | None) -> bool:
    """Whether what a probe took in all is within the limit."""
    return limit is None or told["loaded_bytes"] + told["held_bytes"] <= limit.bytes


def _predictions(fit: MemoryFit | None, sizes: list[int]) -> list[MemoryPrediction]:
    if fit is None:
        return []
    return [
        MemoryPrediction(batch_size=size, bytes=fit.bytes(size), high=fit.high(size))
        for size in sizes
    ]


def _rounded(size: int) -> int:
    """Down to two digits, which is as exact as memory is known.

    >>> _rounded(1234), _rounded(57)
    (1200, 57)
    """
    unit = int(10 ** max(0, len(str(size)) - 2))
    return size // unit * unit
