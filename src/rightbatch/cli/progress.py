"""Progress of the work on stderr: a bar on a terminal, a line at intervals elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from rightbatch.byte_sizes import bytes_text
from rightbatch.cli.output import console
from rightbatch.launch import launched_rank

if TYPE_CHECKING:
    from rightbatch.advice.progress import AdviceProgress
    from rightbatch.advice.runner import CompareProgress
    from rightbatch.advice.stopwatch import SpeedProgress
    from rightbatch.data.packing import PackProgress
    from rightbatch.training.progress import Progress

# A log that grows by a line a minute can be read the next morning; the first lines come sooner,
# so that a user sees that something happens.
_FIRST_INTERVAL_SECONDS = 5.0
_LONGEST_INTERVAL_SECONDS = 60.0
_ROUNDS_INTERVAL_SECONDS = 10.0
_TOLD_LOADING_SHARE = 0.05
# The first blocks say how fast a packing is; one that ends sooner needs no forecast.
_ESTIMATE_SECONDS = 1.0


class ProgressLines:
    """A line for the first and the last epoch, and between them at growing intervals."""

    def __init__(self) -> None:
        self._interval = _FIRST_INTERVAL_SECONDS
        self._next = time.monotonic() + self._interval
        self._told: Progress | None = None
        self._last: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._last is not None and self._last is not self._told:
            self._tell(self._last)

    def __call__(self, progress: Progress) -> None:
        """Take the news; tell it where it is time."""
        first_epoch_ended = progress.row is not None and self._last is None
        if progress.row is not None:
            self._last = progress
        if time.monotonic() >= self._next or first_epoch_ended:
            self._tell(progress)

    def _tell(self, progress: Progress) -> None:
        self._told = progress
        self._next = time.monotonic() + self._interval
        self._interval = min(2 * self._interval, _LONGEST_INTERVAL_SECONDS)
        # Once the batch size has changed, the steps of before are of another length.
        known = progress.steps <= progress.total_steps
        whole = f" of {progress.total_steps:,}" if known else ""
        click.echo(f"step {progress.steps:,}{whole}  {describe(progress)}", err=True)


class Bar:
    """A bar with words beside it; rich takes it away when it is left."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%", markup=False),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.description}", markup=False),
            console=console(to_stderr=True),
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task("", total=None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, completed: float, total: float, words: str) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=completed, total=total, description=words)

    def print_above(self, line: str) -> None:
        """Print a line that stays, above the bar."""
        self._bar.console.print(line)


class ProgressBar(Bar):
    """A bar over all steps, with the losses beside it."""

    def __call__(self, progress: Progress) -> None:
        """Move the bar."""
        self.show(progress.steps, progress.total_steps, describe(progress))


class NoProgress:
    """Nothing is shown, for `--quiet`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def progress_display(*, quiet: bool) -> ProgressBar | ProgressLines | NoProgress:
    """The display that suits stderr as it is now."""
    if quiet:
        return NoProgress()
    return ProgressBar() if sys.stderr.isatty() else ProgressLines()


class StudyProgress:
    """Several runs, one after another: a line for each, and on a terminal a bar for its steps."""

    def __init__(self, bar: ProgressBar | None) -> None:
        self._bar = bar
        self._told = 0

    def __call__(self, progress: CompareProgress) -> None:
        """Name a run when it begins, or when it has ended elsewhere, and show its steps."""
        if progress.run != self._told:
            self._told = progress.run
            state = "ended" if progress.training is None else "begins"
            self._tell(
                f"run {progress.run} of {progress.runs} {state}: batch {progress.batch_size:,}, "
                f"learning rate {progress.learning_rate:.4g}, seed {progress.seed}"
            )
        if self._bar is not None and progress.training is not None:
            self._bar(progress.training)

    def _tell(self, line: str) -> None:
        if self._bar is None:
            click.echo(line, err=True)
        else:
            self._bar.print_above(line)


@contextmanager
def study_display(*, quiet: bool) -> Iterator[StudyProgress | None]:
    """The display of a comparison that suits stderr as it is now; None for `--quiet`."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with ProgressBar() as bar:
            yield StudyProgress(bar)
    else:
        yield StudyProgress(None)


class RoundsProgress:
    """The rounds of a measurement: a bar over their time, or a line now and then."""

    def __init__(self, bar: Bar | None) -> None:
        self._bar = bar
        self._told = time.monotonic()

    def __call__(self, progress: SpeedProgress) -> None:
        """Take the news, and show it where it is time."""
        rounds = f"{progress.rounds:,} round{'' if progress.rounds == 1 else 's'}"
        if self._bar is not None:
            self._bar.show(progress.seconds, progress.total_seconds, rounds)
        elif time.monotonic() - self._told >= _ROUNDS_INTERVAL_SECONDS:
            self._told = time.monotonic()
            click.echo(
                f"{rounds} in {progress.seconds:.0f} of {progress.total_seconds:.0f} s", err=True
            )


@contextmanager
def rounds_display(*, quiet: bool) -> Iterator[RoundsProgress | None]:
    """The display of a measurement of speed that suits stderr as it is now; None for `--quiet`."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with Bar() as bar:
            yield RoundsProgress(bar)
    else:
        yield RoundsProgress(None)


class PackDisplay:
    """The bytes of a packing: a bar, or a line now and then; and, early on, how long it takes."""

    def __init__(self, bar: Bar | None) -> None:
        self._bar = bar
        self._began = self._told = time.monotonic()
        self._is_estimated = self._is_resumed = False

    def __call__(self, progress: PackProgress) -> None:
        """Take the news, and show it where it is time."""
        if progress.resumed_bytes and not self._is_resumed:
            self._is_resumed = True
            self._tell(f"Going on: {bytes_text(progress.resumed_bytes)} are packed already")
        written = progress.done_bytes - progress.resumed_bytes
        if not self._is_estimated and written and progress.seconds >= _ESTIMATE_SECONDS:
            self._is_estimated = True
            if progress.stage == "writing":
                self._tell(_estimate(written, progress))
        words = "looking for duplicates" if progress.stage == "duplicates" else "packed"
        self.show(words, progress.done_bytes, progress.total_bytes)

    def show(self, words: str, done_bytes: int, total_bytes: int) -> None:
        """Show how far the work is, where it is time."""
        now = time.monotonic()
        if self._bar is not None:
            self._bar.show(done_bytes, total_bytes, words)
        elif now - self._told >= _ROUNDS_INTERVAL_SECONDS:
            self._told = now
            share = done_bytes / max(1, total_bytes)
            self._tell(f"{words}  {share:.0%} after {now - self._began:.0f} s")

    def _tell(self, line: str) -> None:
        if self._bar is None:
            click.echo(line, err=True)
        else:
            self._bar.print_above(line)


def _estimate(written: int, progress: PackProgress) -> str:
    speed = written / progress.seconds
    seconds = (progress.total_bytes - progress.done_bytes) / speed
    return f"Writing takes about {seconds:,.0f} s more, at {bytes_text(speed)} a second"


@contextmanager
def pack_display(*, quiet: bool) -> Iterator[PackDisplay | None]:
    """The display of a packing that suits stderr as it is now; None for `--quiet`."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with Bar() as bar:
            yield PackDisplay(bar)
    else:
        yield PackDisplay(None)


class AdviceDisplay:
    """The stages of an advice: a bar over its time, or a line a stage and now and then."""

    def __init__(self, bar: Bar | None) -> None:
        self._bar = bar
        self._stage = ""
        self._told = 0.0

    def __call__(self, progress: AdviceProgress) -> None:
        """Take the news, and show it where it is time."""
        words = f"{progress.stage}: {progress.text}"
        if self._bar is not None:
            self._bar.show(progress.seconds, progress.total_seconds, words)
            return
        now = time.monotonic()
        if progress.stage != self._stage or now - self._told >= _ROUNDS_INTERVAL_SECONDS:
            self._stage, self._told = progress.stage, now
            click.echo(
                f"{words}  ({progress.seconds:.0f} of {progress.total_seconds:.0f} s)", err=True
            )


@contextmanager
def advice_display(*, quiet: bool) -> Iterator[AdviceDisplay | None]:
    """The display of an advice that suits stderr as it is now; None for `--quiet`.

    Of several ranks the first one tells.
    """
    if quiet or launched_rank() > 0:
        yield None
    elif sys.stderr.isatty():
        with Bar() as bar:
            yield AdviceDisplay(bar)
    else:
        yield AdviceDisplay(None)


@dataclass(frozen=True, kw_only=True)
class RunDisplay:
    """The displays of an advice and of the training after it; None for `--quiet`."""

    advice: AdviceDisplay | None
    training: ProgressBar | ProgressLines | None


@contextmanager
def run_display(*, quiet: bool) -> Iterator[RunDisplay]:
    """The displays of a run that suit stderr as it is now: on a terminal they share a bar."""
    with progress_display(quiet=quiet or launched_rank() > 0) as training:
        if training is None:
            yield RunDisplay(advice=None, training=None)
        else:
            bar = training if isinstance(training, ProgressBar) else None
            yield RunDisplay(advice=AdviceDisplay(bar), training=training)


def describe(progress: Progress) -> str:
    """Epoch, losses and speed in one line.

    >>> from rightbatch.training.progress import Progress
    >>> describe(Progress(epoch=2, steps=30, total_steps=90, train_loss=0.25,
    ...                   samples_per_second=12000.0, row={"val_loss": 0.5, "val_accuracy": 0.75}))
    'epoch 2  train loss 0.2500  val loss 0.5000  val accuracy 0.7500  12,000 samples/s'
    """
    measures = {"train_loss": progress.train_loss}
    measures.update(
        {name: value for name, value in (progress.row or {}).items() if name.startswith("val_")}
    )
    shown = [f"{name.replace('_', ' ')} {value:.4f}" for name, value in measures.items()]
    rate = f"{progress.samples_per_second:,.0f} samples/s"
    # Below a twentieth there is nothing to gain.
    if progress.loading_share >= _TOLD_LOADING_SHARE:
        rate += f", {progress.loading_share:.0%} of the time waiting for data"
    if progress.bad_samples:
        rate += f", {progress.bad_samples:,} bad samples left out"
    return "  ".join([f"epoch {progress.epoch}", *shown, rate])
