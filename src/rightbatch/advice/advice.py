"""The advice: a batch size that ran, the interval around it, and the evidence."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from rightbatch.advice.law import Law
from rightbatch.advice.memory import Memory
from rightbatch.advice.noise_scale import Noise
from rightbatch.advice.pilot_result import Pilot
from rightbatch.advice.rank_shares import RankShares
from rightbatch.advice.timing import Speed
from rightbatch.notebook import html_table
from rightbatch.training.provenance import Provenance


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What the batch size is to be best for.

    `kind` is "target_loss" (the least time to a validation loss, `target_loss`) or "epochs" (the
    least time for `epochs` epochs whose loss is within 10 % of the best samples efficiency).
    """

    kind: str
    target_loss: float | None = None
    epochs: int | None = None

    @property
    def text(self) -> str:
        """The goal as half a sentence.

        >>> Goal(kind="epochs", epochs=20).text
        'the least time for 20 epochs that still end as low as smaller batches would'
        """
        if self.kind == "target_loss":
            return f"the least time to a validation loss of {self.target_loss:g}"
        count = "1 epoch" if self.epochs == 1 else f"{self.epochs:,} epochs"
        ends = "ends" if self.epochs == 1 else "end"
        return f"the least time for {count} that still {ends} as low as smaller batches would"


@dataclass(frozen=True, kw_only=True)
class Companions:
    """Settings that go with the batch size: starting points to tune again, never optima.

    `learning_rate_source` says where the rate comes from ("the pilot's search at this size",
    "scaled from …"). `beta2` holds the half-life of Adam's second moment in samples, None for
    other optimizers (arXiv 2507.07101); `schedule` says what else is counted in steps.
    """

    learning_rate_source: str
    beta2: float | None = None
    schedule: str


@dataclass(frozen=True, kw_only=True)
class CostPoint:
    """The predicted cost of reaching the goal at one batch size, with a 95 % interval.

    `samples` are those to the pilot's or the target loss, `seconds` the training time to the goal
    and `low` to `high` its interval. In the quick grade `samples` are relative: 1.0 is what ever
    smaller batches need; so are `seconds` to a target loss, the least being 1.0. The seconds of a
    number of epochs are seconds in both grades. `has_run` says whether steps of this size were
    taken.
    """

    batch_size: int
    samples: float
    seconds: float
    low: float
    high: float
    has_run: bool


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Which batch size to take, and why.

    `batch_size` is always one that ran; `interval` the sizes (from, to) whose time to the goal is
    within 10 % of the best, as far as the measurements tell. `grade` is "quick" (memory, speed and
    noise) or "pilot" (branches were trained). `learning_rate` is a starting point at this size.
    `micro_batch_size` and `accumulation_steps` cut the batch where memory is the limit: None and 1
    elsewhere. `evaluation_batch_size` is for validation and prediction. `reasons` are sentences
    with the numbers, `alerts` what stands in the way of trusting them. `costs` has what was
    predicted for each size, None in it where statistics were refused. `tested` are the sizes
    that ran.

    Under several ranks all sizes are those of the global batch, and `ranks` says what each rank
    holds of it; `micro_batch_size`, `accumulation_steps` and `evaluation_batch_size` are of a rank.
    """

    batch_size: int
    interval: tuple[int, int]
    grade: str
    goal: Goal
    learning_rate: float
    companions: Companions
    micro_batch_size: int | None
    accumulation_steps: int
    evaluation_batch_size: int
    reasons: list[str]
    alerts: list[str]
    memory: Memory | None
    speed: Speed
    noise: Noise
    pilot: Pilot | None
    law: Law | None
    costs: list[CostPoint]
    tested: list[int]
    seconds_spent: float
    model: str
    training_samples: int
    settings: dict[str, Any] = field(default_factory=dict)
    provenance: Provenance
    ranks: RankShares | None = None

    @property
    def is_full(self) -> bool:
        """Whether the advised batch is the whole training part."""
        return self.batch_size >= self.training_samples

    @property
    def shares_text(self) -> str:
        """What the ranks hold of the batch, and at a time, as half a sentence; "" for one process.

        It begins with a comma.
        """
        if self.ranks is None:
            return ""
        pieces = self.micro_batch_size
        at_a_time = "" if pieces is None else f", {pieces:,} at a time"
        return f", {self.ranks.shares_text}{at_a_time}"

    @property
    def interval_text(self) -> str:
        """The interval as half a sentence."""
        low, high = self.interval
        if low == high:
            return "no other size is known to come within 10 % of it"
        if not self.costs:
            return f"any from {low:,} to {high:,} is within 10 % of the highest throughput"
        if self.goal.kind == "epochs":
            return f"from {low:,} to {high:,} nearly as fast, and as good by the samples"
        return f"any from {low:,} to {high:,} is within 10 % of the best"

    def __repr__(self) -> str:
        low, high = self.interval
        return (
            f"<Advice for {self.model} on {self.provenance.data}: batch size {self.batch_size:,} "
            f"({low:,} to {high:,}), {self.grade}>"
        )

    def __str__(self) -> str:
        full = ", the full batch" if self.is_full else ""
        lines = [
            f"Batch size {self.batch_size:,}{full}{self.shares_text} ({self.interval_text}), "
            f"{self.grade} grade",
            f"Goal: {self.goal.text}",
            f"Learning rate to start from: {self.learning_rate:.3g} "
            f"({self.companions.learning_rate_source})",
            *(f"- {reason}" for reason in self.reasons),
            *(f"! {alert}" for alert in self.alerts),
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows: list[tuple[str, str]] = [
            ("batch size", f"{self.batch_size:,}{self.shares_text}"),
            ("interval", self.interval_text),
            ("grade", self.grade),
            ("goal", self.goal.text),
            ("learning rate to start from", f"{self.learning_rate:.3g}"),
            *(("reason", reason) for reason in self.reasons),
            *(("alert", alert) for alert in self.alerts),
        ]
        return html_table(
            ["", ""], rows, caption=f"Batch size for {self.model} on {self.provenance.data}"
        )

    def to_json(self) -> dict[str, Any]:
        """As one JSON-able object."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            **own,
            "interval": list(self.interval),
            "goal": {**asdict(self.goal), "text": self.goal.text},
            "companions": asdict(self.companions),
            "memory": None if self.memory is None else self.memory.to_json(),
            "speed": self.speed.to_json(),
            "noise": self.noise.to_json(),
            "pilot": None if self.pilot is None else self.pilot.to_json(),
            "law": None if self.law is None else self.law.to_json(),
            "costs": [asdict(point) for point in self.costs],
            "provenance": self.provenance.to_json(),
            "ranks": None if self.ranks is None else self.ranks.to_json(),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        memory, pilot, law = (stored[name] for name in ("memory", "pilot", "law"))
        ranks = stored.get("ranks")
        goal = {name: value for name, value in stored["goal"].items() if name != "text"}
        low, high = stored["interval"]
        return cls(
            **{
                **stored,
                "interval": (low, high),
                "goal": Goal(**goal),
                "companions": Companions(**stored["companions"]),
                "memory": None if memory is None else Memory.from_json(memory),
                "speed": Speed.from_json(stored["speed"]),
                "noise": Noise.from_json(stored["noise"]),
                "pilot": None if pilot is None else Pilot.from_json(pilot),
                "law": None if law is None else Law.from_json(law),
                "costs": [CostPoint(**point) for point in stored["costs"]],
                "provenance": Provenance.from_json(stored["provenance"]),
                "ranks": None if ranks is None else RankShares.from_json(ranks),
            }
        )
