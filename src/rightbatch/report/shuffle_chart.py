"""What an order does to the samples: where each one goes, and how balanced the batches are."""

from __future__ import annotations

import altair

from rightbatch.loading.shuffle_result import ShuffleQuality
from rightbatch.report.curve_rows import rounded
from rightbatch.report.theme import dressed, rows_chart

_ROOM = 0.12
_COUNTS = "datum.value >= 1e4 ? format(datum.value, '.3~s') : format(datum.value, ',~g')"


def shuffle_places(
    quality: ShuffleQuality, *, theme: str = "light", width: int | str = 640, height: int = 320
) -> altair.LayerChart:
    """The place in the data against the place in the epoch, of samples spread over the epoch.

    A uniform shuffle fills the square; a window leaves a band about the dashed diagonal, the order
    of the data.

    >>> import rightbatch as rb
    >>> shuffle_places(rb.shuffle_quality("iris", window=20, batch_size=16)).to_dict()["height"]
    320
    """
    last = max(1, quality.samples - 1)
    scale = altair.Scale(domain=[0, last], nice=False)
    axis = altair.Axis(labelExpr=_COUNTS)
    x = altair.X("place:Q", title="place in the epoch", scale=scale, axis=axis)
    y = altair.Y("row:Q", title="place in the data", scale=scale, axis=axis)
    tooltip = [
        altair.Tooltip("place:Q", title="place in the epoch", format=",d"),
        altair.Tooltip("row:Q", title="place in the data", format=",d"),
    ]
    diagonal = rows_chart([{"place": 0, "row": 0}, {"place": last, "row": last}])
    samples = rows_chart([{"place": place, "row": row} for place, row in quality.places])
    chart = altair.layer(
        samples.mark_point(filled=True, size=10, opacity=0.6, style="measured", aria=False).encode(
            x=x, y=y, tooltip=tooltip
        ),
        diagonal.mark_line(style="guide").encode(x=x, y=y),
    ).properties(width=width, height=height)
    return dressed(chart, theme, series=1)


def batch_balance(
    quality: ShuffleQuality, *, theme: str = "light", width: int | str = 640, height: int = 240
) -> altair.LayerChart | None:
    """The label imbalance of batches along the epoch, over the band of the uniform shuffle.

    Nine of ten batches of a uniform shuffle lie in the band. None without labels.

    >>> import rightbatch as rb
    >>> batch_balance(rb.shuffle_quality("iris", window=20, batch_size=16)).to_dict()["height"]
    240
    """
    if quality.uniform_band is None or not quality.batch_imbalances:
        return None
    low, high = quality.uniform_band
    top = max(high, *(value for _, value in quality.batch_imbalances))
    x = altair.X(
        "batch:Q",
        title="batch of the epoch",
        scale=altair.Scale(domain=[0.5, quality.batches + 0.5], nice=False),
        axis=altair.Axis(labelExpr=_COUNTS, tickMinStep=1),
    )
    scale = altair.Scale(domain=[0, top * 1.05 or 1], nice=False)
    y = altair.Y(
        "imbalance:Q",
        title="label imbalance",
        scale=scale,
        axis=altair.Axis(format="~%"),
    )
    band = rows_chart([{"low": rounded(low), "high": rounded(high)}])
    # Under the band where there is room, so that its name hides no batch.
    edge, dy = ("low:Q", 10) if low > _ROOM * top else ("high:Q", -8)
    batches = rows_chart(
        [
            {"batch": number + 1, "imbalance": rounded(value)}
            for number, value in quality.batch_imbalances
        ]
    )
    tooltip = [
        altair.Tooltip("batch:Q", format=",d"),
        altair.Tooltip("imbalance:Q", title="label imbalance", format=".1%"),
    ]
    chart = altair.layer(
        band.mark_rect(style="band").encode(y=altair.Y("low:Q", scale=scale), y2="high:Q"),
        batches.mark_point(filled=True, size=16, opacity=0.8, style="measured", aria=False).encode(
            x=x, y=y, tooltip=tooltip
        ),
        band.mark_text(
            style="guide-text",
            text="uniform shuffle: nine of ten batches",
            x="width",
            align="right",
            dx=-4,
            dy=dy,
        ).encode(y=altair.Y(edge, scale=scale)),
    ).properties(width=width, height=height)
    return dressed(chart, theme, series=1)
