"""Where the consumer of batches stands, and the state from which another one goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Any

from rightbatch.errors import ResumeError
from rightbatch.loading.quarantine import Quarantine
from rightbatch.plan.cursor import Cursor
from rightbatch.plan.order import Order
from rightbatch.plan.plan import Plan
from rightbatch.plan.token_plan import AnyPlan

# What a budget of memory may call for.
_CHOSEN_ORDERS = ("uniform", "block-window")

Read = Callable[[int, int], Generator[tuple[int, Any], None, None]]
"""From an epoch and a number of samples of it: pairs of (samples taken, batch)."""


class Consumed:
    """What has been taken of epoch after epoch: `samples` of epoch number `epoch`.

    Of several iterations under way the newest moves it.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.samples = 0
        # Those of the batch that was taken last, on all ranks together.
        self.batch_samples = 0
        # Whether the next iteration goes on inside the epoch: after a state was loaded only.
        self._goes_on = True
        # The iteration that moves the cursor: the newest one, none after a state was loaded.
        self._moving: object = None

    def through(self, plan: AnyPlan, read: Read) -> Generator[Any, None, None]:
        """The batches that `read(epoch, start)` gives of the epoch's rest, or of the next epoch.

        `plan` says where it ends.
        """
        # This runs when the first batch is taken: trainers make iterators that they never use, and
        # none of those may cost an epoch.
        if not self._goes_on:
            self.epoch, self.samples = self.epoch + 1, 0
        self._goes_on = False
        self._moving = iteration = object()
        epoch, start = self.epoch, self.samples
        end = plan.end(start)
        taken = start
        with contextlib.closing(read(epoch, start)) as batches:
            for stop, batch in batches:
                self.batch_samples, taken = stop - taken, stop
                if self._moving is iteration:
                    if stop < end:
                        self.epoch, self.samples = epoch, stop
                    else:
                        # The epoch has been taken whole: the state is the start of the next one.
                        self.epoch, self.samples, self._goes_on = epoch + 1, 0, True
                yield batch

    def stand(self, epoch: int, samples: int) -> None:
        """Go on from there: iterations that are under way move nothing any more."""
        self.epoch, self.samples = epoch, samples
        self._goes_on = True
        self._moving = None


def state_of(
    consumed: Consumed, plan: AnyPlan, fingerprint: str, quarantine: Quarantine | None
) -> dict[str, Any]:
    """What is consumed, of which plan and data, and what was left out, as small JSON."""
    cursor = Cursor.of(
        plan, epoch=consumed.epoch, samples=consumed.samples, fingerprint=fingerprint
    )
    state = cursor.to_json()
    if quarantine is not None:
        state["bad_samples"] = quarantine.to_json()
    return state


def read_state(state: Mapping[str, Any], quarantine: Quarantine | None) -> tuple[Cursor, Any]:
    """The cursor of a state, and its list of bad samples.

    Raises ResumeError where it is no state, or has left samples out and nothing may be now.
    """
    state = dict(state)
    bad_samples = state.pop("bad_samples", [])
    cursor = Cursor.from_json(state)
    if bad_samples and quarantine is None:
        raise ResumeError(
            f"the state has left {len(bad_samples):,} bad samples out: go on with "
            'on_bad_sample="quarantine" and max_bad as it was'
        )
    return cursor, bad_samples


def plan_of_run(cursor: Cursor, plan: AnyPlan) -> AnyPlan:
    """The plan with the order of the run, where it is one that memory calls for.

    Whatever memory there is now, the samples come in the order that the run began with.
    """
    if (
        isinstance(plan, Plan)
        and isinstance(cursor.order, Order)
        and cursor.order.kind in _CHOSEN_ORDERS
        and cursor.order != plan.order
    ):
        return replace(plan, order=cursor.order)
    return plan
