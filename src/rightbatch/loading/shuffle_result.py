"""What a measurement of a shuffle gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Self

from rightbatch.loading.window_search import TriedWindow
from rightbatch.notebook import html_table
from rightbatch.plan.order import Order
from rightbatch.plan.order_measures import Measure


@dataclass(frozen=True, kw_only=True)
class ShuffleQuality:
    """How well the order of an epoch mixes the samples, each number beside a uniform shuffle's.

    Every `Measure` has a `value`, the mean of a `uniform` shuffle, and the `ratio` of the two.
    n is the number of samples, B the batch size, and p the place of a sample in the epoch.

    - `travel`: the mean of |p - x| / n, x being the sample's place in the data; uniform 1/3.
      `travel_low` and `travel_high` are what 10 % and 90 % of the samples do not exceed; uniform
      1 - √0.9 and 1 - √0.1, for many samples.
    - `distinct_blocks`: from how many blocks of `block` neighbours in the data a batch comes, on
      average; uniform Σ (1 - C(n - b, B) / C(n, B)) over the blocks, b being a block's length.
    - `neighbours`: the chance that two samples which stand side by side in the data are in one
      batch; uniform (B - 1)/(n - 1) where B divides n.
    - `label_imbalance`: ½ Σ |s - q| over the labels, s being a label's share of the batch and q
      its share of the whole, averaged over the batches: the part of a batch that had to be
      exchanged to give it the shares of the whole. It is read as it stands, from 0 to 1, which
      chi-square is not; uniform the mean over all draws without replacement.
    - `consecutive_labels`: the chance that a sample of a batch and one of the next have the same
      label; uniform Σ K(K - 1) / n(n - 1), K being the samples of a label. Small batches need it:
      one of a single sample is as unbalanced as any other, in whatever order.
    - `equal_neighbours`: the chance that samples side by side in the data have the same label; a
      random order has the same chance as above. Near 1, the data are sorted by label.

    The last three are None without labels, and the second of them where no two batches follow one
    another. `evaluated` positions of the epoch were looked at: all, or, where `is_sampled`, whole
    batches in stretches that are spread over it. `warning` says that labels are badly mixed, and
    `tried` has the windows that were measured for it.

    For the charts, thinned: `places`, pairs of place in the epoch and place in the data, and
    `batch_imbalances`, pairs of a batch's number and its imbalance; `uniform_band` is where nine
    of ten batches of a uniform shuffle lie.
    """

    data: str
    part: str
    fingerprint: str
    samples: int
    batch_size: int
    batches: int
    order: Order
    seed: int
    epoch: int
    block: int
    evaluated: int
    is_sampled: bool
    travel: Measure
    travel_low: Measure
    travel_high: Measure
    distinct_blocks: Measure
    neighbours: Measure
    label_imbalance: Measure | None = None
    consecutive_labels: Measure | None = None
    equal_neighbours: Measure | None = None
    classes: int | None = None
    tried: list[TriedWindow] = field(default_factory=list)
    warning: str | None = None
    notes: list[str] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    batch_imbalances: list[tuple[int, float]] = field(default_factory=list)
    uniform_band: tuple[float, float] | None = None

    @property
    def window_that_would_do(self) -> int | None:
        """The smallest window tried that mixes the labels well, below the whole; None without.

        Windows are tried only where the present order mixes the labels badly.
        """
        found = next((tried.window for tried in self.tried if tried.is_mixed), None)
        return None if found is None or found >= self.samples else found

    def measures(self) -> Iterator[tuple[str, str, Measure]]:
        """Name, what it is in words, and value of every measure that there is."""
        for name, words in _WORDS.items():
            measure = getattr(self, name)
            if measure is not None:
                yield name, words.format(block=f"{self.block:,}"), measure

    def rows(self) -> list[list[str]]:
        """The measures as texts of a table: what, value, a uniform shuffle's, times."""
        return [
            [
                words,
                number_text(name, value.value),
                number_text(name, value.uniform),
                _ratio_text(value.ratio),
            ]
            for name, words, value in self.measures()
        ]

    def __repr__(self) -> str:
        told = f"travel {self.travel.ratio:.2f} of uniform"
        if self.label_imbalance is not None:
            told += f", label imbalance {_ratio_text(self.label_imbalance.ratio)} times uniform"
        if self.warning:
            told += "; badly mixed labels"
        return (
            f"<ShuffleQuality of {self.data}, {self.part}: order {self.order}, batches of "
            f"{self.batch_size:,}: {told}>"
        )

    def _repr_html_(self) -> str:
        caption = (
            f"{self.data}, {self.part}: order {self.order}, batches of {self.batch_size:,}"
            + (f". {self.warning}" if self.warning else "")
        )
        return html_table(["", "here", "uniform", "times"], self.rows(), caption=caption)

    def to_json(self) -> dict[str, Any]:
        """As one JSON-able object."""
        told = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in _WORDS:
            told[name] = None if told[name] is None else told[name].to_json()
        return {
            **told,
            "order": self.order.to_json(),
            "tried": [tried.to_json() for tried in self.tried],
            "places": [list(pair) for pair in self.places],
            "batch_imbalances": [list(pair) for pair in self.batch_imbalances],
            "uniform_band": None if self.uniform_band is None else list(self.uniform_band),
            "window_that_would_do": self.window_that_would_do,
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        given = {item.name: stored[item.name] for item in fields(cls)}
        for name in _WORDS:
            given[name] = None if given[name] is None else Measure.from_json(given[name])
        band = stored["uniform_band"]
        return cls(
            **{
                **given,
                "order": Order.from_json(stored["order"]),
                "tried": [TriedWindow(**tried) for tried in stored["tried"]],
                "places": [(place, row) for place, row in stored["places"]],
                "batch_imbalances": [(batch, value) for batch, value in stored["batch_imbalances"]],
                "uniform_band": None if band is None else (band[0], band[1]),
            }
        )


_WORDS = {
    "travel": "mean way of a sample, by the length",
    "travel_low": "way that 10 % do not exceed",
    "travel_high": "way that 90 % do not exceed",
    "distinct_blocks": "blocks of {block} in a batch",
    "neighbours": "neighbours in one batch",
    "label_imbalance": "label imbalance of a batch",
    "consecutive_labels": "equal labels in consecutive batches",
    "equal_neighbours": "equal labels of neighbours in the data",
}
_SHARES = ("label_imbalance", "consecutive_labels", "equal_neighbours")


def number_text(name: str, value: float) -> str:
    """A measure for people: chances of labels in per cent, all others to three digits.

    >>> number_text("equal_neighbours", 0.1), number_text("travel", 0.33333)
    ('10.0 %', '0.333')
    """
    return share_text(value) if name in _SHARES else f"{value:.3g}"


def share_text(share: float) -> str:
    """A share in per cent.

    >>> share_text(0.1234)
    '12.3 %'
    """
    return f"{100 * share:.1f} %"


def _ratio_text(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.2g}" if ratio < 0.1 else f"{ratio:.2f}"
