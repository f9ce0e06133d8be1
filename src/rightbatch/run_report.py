"""What the main job gives: how the model learned, how well it does, and what it was advised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rightbatch.advice.advice import Advice
from rightbatch.notebook import html_table

# Kept apart: the advice has a file of its own in the run's folder, the page is no part of it.
_NOT_IN_THE_RUN = ("advice", "report")


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """How a model learned, and how well it does on samples it has not seen.

    Losses and the metric (`accuracy` or `r2`) are exact means over samples, of the epoch whose
    weights the model has (`best_epoch`); `val` and `test` are None where nothing was held out.
    `run` is the folder of the run. `batch_size` and `learning_rate` are those of the training (with
    `batch_tokens`, the most samples that a batch held);
    where they were advised, `advice` says why, else it is None. `target_loss` is the validation
    loss at which training was to end. `report` is the page that was written, None where none was
    asked for. `seconds` is the time of the training, `loading_seconds` how long of it
    training waited for batches. `bad_samples` could not be read and were left out.
    """

    run: str
    data: str
    model: str
    metric: str
    epochs: int
    best_epoch: int
    steps: int
    batch_size: int
    micro_batch_size: int | None
    learning_rate: float
    target_loss: float | None
    train_loss: float
    val: dict[str, float] | None
    test: dict[str, float] | None
    seconds: float
    loading_seconds: float
    samples_per_second: float
    leaked_samples: int
    bad_samples: int
    duplicate_samples: int | None
    advice: Advice | None = None
    report: str | None = None
    batch_tokens: int | None = None

    @property
    def reached_target(self) -> bool | None:
        """Whether the validation loss came down to the target; None where there was none."""
        if self.target_loss is None or self.val is None:
            return None
        return self.val["loss"] <= self.target_loss

    def __repr__(self) -> str:
        advised = "" if self.advice is None else " (advised)"
        scores = "" if self.test is None else f", test {self.metric} {self.test[self.metric]:.4g}"
        return (
            f"<Run of {self.model} on {self.data}: batch size {self.batch_size:,}{advised}, "
            f"{self.epochs:,} epochs{scores}; {self.run}>"
        )

    def _repr_html_(self) -> str:
        rows = [
            ("batch size", f"{self.batch_size:,}{'' if self.advice is None else ' (advised)'}"),
            ("learning rate", f"{self.learning_rate:.3g}"),
            ("epochs", f"{self.epochs:,}"),
            ("train loss", f"{self.train_loss:.4f}"),
            *(
                (f"{part} {name}", f"{value:.4f}")
                for part, scores in (("val", self.val), ("test", self.test))
                for name, value in (scores or {}).items()
            ),
            ("run", self.run),
        ]
        return html_table(["", ""], rows, caption=f"{self.model} on {self.data}")

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON-able object, flat but for the advice."""
        return {
            **self.result_json(),
            "advice": None if self.advice is None else self.advice.to_json(),
            "report": self.report,
        }

    def result_json(self) -> dict[str, Any]:
        """What the run's folder keeps as result.json: everything but advice and page."""
        told = {
            name: getattr(self, name)
            for name in self.__dataclass_fields__
            if name not in ("val", "test", *_NOT_IN_THE_RUN)
        }
        for part, scores in (("val", self.val), ("test", self.test)):
            for measure in ("loss", self.metric):
                told[f"{part}_{measure}"] = None if scores is None else scores[measure]
        return told
