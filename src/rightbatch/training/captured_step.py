"""A whole step as one CUDA graph: recorded once, and then a single launch a batch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map
from typing_extensions import override

from rightbatch.errors import is_out_of_memory
from rightbatch.training.device_step import DeviceStep
from rightbatch.training.memory import release_memory
from rightbatch.training.optimizers import Optimizer
from rightbatch.training.step import Gradient, Step
from rightbatch.training.step_watch import StepWatch, addresses, why_not_alike

logger = logging.getLogger(__name__)

# Libraries set themselves up in the first steps, and a model that does something else now and then
# may show it.
_WARM_STEPS = 3

Record = Callable[[Callable[[], None], Any], Callable[[], None]]
"""Records what a function does on a stream, without doing it; gives what replays it."""


@dataclass(frozen=True, kw_only=True)
class Capture:
    """Whether the steps of full batches were replayed from a recording, and why (not).

    >>> Capture(is_captured=False, reason="capture=False")
    <Capture: no, capture=False>
    """

    is_captured: bool
    reason: str

    def __repr__(self) -> str:
        return f"<Capture: {'yes' if self.is_captured else 'no'}, {self.reason}>"


class CapturedStep(DeviceStep):
    """A step that is recorded once it has been taken some times, and replayed from then on.

    The first full batches are learned from as ever, on the stream that will be recorded; then
    forward pass, backward pass, penalties and update become one graph of launches over memory that
    stays in its place, into which every further full batch is copied. Smaller batches, and all of
    them where a step can not be recorded, are learned from launch by launch: `capture` says why.

    `is_watched` asks for a look at the first steps, operation by operation (see `StepWatch`), and
    `is_asked` for a warning where it comes to nothing. `record` is what makes a graph.
    """

    def __init__(
        self,
        gradient: Gradient,
        optimizer: Optimizer,
        *,
        l1: float,
        l2: float,
        micro_batch_size: int | None,
        batch_size: int,
        is_watched: bool,
        is_asked: bool,
        record: Record | None = None,
    ) -> None:
        super().__init__(gradient, optimizer, l1=l1, l2=l2, micro_batch_size=micro_batch_size)
        self._batch_size = batch_size
        self._is_watched = is_watched
        self._is_asked = is_asked
        self._record = record or record_graph
        self._device = gradient.parameters[0].device
        self._stream = _new_stream(self._device)
        self._taken = 0
        self._watches: list[StepWatch] = []
        self._watched: Any = None
        self._tensors = [*gradient.model.parameters(), *self._buffers]
        self._addresses = addresses(self._tensors)
        self._replay: Callable[[], None] | None = None
        self._static: list[Tensor] = []
        self._shapes: list[tuple[torch.Size, torch.dtype]] = []
        self._total = 0
        self.capture = Capture(is_captured=False, reason="no more than a few full batches came")
        self._is_open = True
        if micro_batch_size is not None:
            self._give_up("batches are learned from in micro-batches")

    @override
    def launch(self, inputs: Any, target: Tensor, total: int) -> None:
        if self._replay is not None:
            batch = [*tree_leaves(inputs), target]
            # The weight of a batch is a number of the recording, and tokens may be masked.
            if total == self._total and self._shapes == [(v.shape, v.dtype) for v in batch]:
                torch._foreach_copy_(self._static, batch)
                self._replay()
                self.unread += 1
                return
        elif self._is_open and len(target) == self._batch_size:
            self._come_to_it(inputs, target, total)
            return
        super().launch(inputs, target, total)

    @override
    def _attempt(self, inputs: Any, target: Tensor, total: int, size: int) -> Tensor:
        if self._watched is None:
            return super()._attempt(inputs, target, total, size)
        watch = StepWatch(self._watched)
        with watch:
            mean = super()._attempt(inputs, target, total, size)
        self._watches.append(watch)
        return mean

    def _come_to_it(self, inputs: Any, target: Tensor, total: int) -> None:
        """Take one of the first steps, or record."""
        if self._taken < _WARM_STEPS:
            self._taken += 1
            self._watched = (inputs, target) if self._is_watched else None
            try:
                with _beside(self._stream, self._device):
                    super().launch(inputs, target, total)
            finally:
                self._watched = None
            return
        reason = self._why_not()
        if reason is None:
            reason = self._try(inputs, target, total)
        if reason is None:
            self.capture = Capture(
                is_captured=True,
                reason=f"full batches of {self._batch_size:,} are replayed as one CUDA graph",
            )
            self.launch(inputs, target, total)
            return
        self._give_up(reason)
        super().launch(inputs, target, total)

    def _why_not(self) -> str | None:
        if self.micro_batch_size is not None:
            return "memory has room for micro-batches alone"
        if self._draws_from_cpu and self._device.type != "cpu":
            return "the model draws random numbers of the CPU"
        if (
            addresses(self._tensors) != self._addresses
            or addresses([*self.gradient.model.parameters(), *self.gradient.model.buffers()])
            != self._addresses
        ):
            return "the model replaces a parameter or a buffer instead of writing into it"
        return why_not_alike(self._watches) if self._watches else None

    def _try(self, inputs: Any, target: Tensor, total: int) -> str | None:
        """Record a step over memory of its own; gives what speaks against it."""
        static_inputs = tree_map(lambda value: value.clone(), inputs)
        static_target = target.clone()
        size = len(target)

        def step() -> None:
            self._keep_buffers()
            self._settle(Step._mean(self, static_inputs, static_target, total, size))

        try:
            self._replay = self._record(step, self._stream)
        except Exception as error:
            is_memory = is_out_of_memory(error)
            why = (str(error).splitlines() or [type(error).__name__])[0]
        else:
            self._static = [*tree_leaves(static_inputs), static_target]
            self._shapes = [(value.shape, value.dtype) for value in self._static]
            self._total = total
            return None
        # Outside of the except clause, which keeps the tensors of the attempt alive.
        release_memory()
        if is_memory:
            return "memory has no room for a recorded step beside the others"
        return f"the step can not be recorded ({why})"

    def _give_up(self, reason: str) -> None:
        self._is_open = False
        self._watches = []
        self.capture = Capture(is_captured=False, reason=reason)
        tell = logger.warning if self._is_asked else logger.info
        tell(f"steps are launched one operation at a time, not captured: {reason}")


def record_graph(step: Callable[[], None], stream: Any) -> Callable[[], None]:
    """Record what `step` launches as a CUDA graph; gives what launches all of it again."""
    device = stream.device
    caller = torch.cuda.current_stream(device)
    generator = torch.cuda.default_generators[device.index]
    random_state = generator.clone_state()
    graph = torch.cuda.CUDAGraph()
    try:
        # A loader's thread copies meanwhile, which must not end the recording: only what this
        # thread does is looked at.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            step()
    except BaseException:
        # torch leaves a recording that failed with its stream as the current one, and with random
        # numbers as if it still went on, at which the next dropout would raise.
        torch.cuda.set_stream(caller)
        generator.graphsafe_set_state(random_state)
        raise
    replay: Callable[[], None] = graph.replay
    return replay


def _new_stream(device: torch.device) -> Any:
    if device.type != "cuda":
        return None
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it untyped


class _Beside(AbstractContextManager[None]):
    """Work on another stream, in its turn between what came before and what comes after."""

    def __init__(self, stream: Any, device: torch.device) -> None:
        self._stream = stream
        self._caller = torch.cuda.current_stream(device)
        self._inside = torch.cuda.stream(stream)

    @override
    def __enter__(self) -> None:
        self._stream.wait_stream(self._caller)
        self._inside.__enter__()  # type: ignore[no-untyped-call]  # torch leaves it untyped

    @override
    def __exit__(self, *error: Any) -> None:
        self._inside.__exit__(*error)
        self._caller.wait_stream(self._stream)


def _beside(stream: Any, device: torch.device) -> AbstractContextManager[None]:
    return nullcontext() if stream is None else _Beside(stream, device)
