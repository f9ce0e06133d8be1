"""The memory that each batch size takes above the loaded process, and the limit."""

from __future__ import annotations

from typing import Any

import altair

from rightbatch.advice.advice import Advice
from rightbatch.advice.memory import Memory, MemoryPoint
from rightbatch.byte_sizes import bytes_text
from rightbatch.report.advice_axis import AdviceAxis, line, panel, vertical
from rightbatch.report.curve_rows import rounded
from rightbatch.report.theme import rows_chart

# A limit that is further above the data would take the room that they need.
_FARTHEST_LIMIT = 100.0
# A process reports its memory in pages; what is below is nothing, and has no logarithm.
_LEAST_BYTES = 4096.0


def memory_chart(
    advice: Advice, *, theme: str = "light", width: int | str = 640
) -> altair.LayerChart | None:
    """Bytes above the loaded process against the batch size, both in decades.

    Points are what was in use at once, in training filled and in passes without gradients hollow;
    the line is the law of training, its band goes up to what the process may hold, and the dashed
    rule is what the limit leaves.
    None where memory was not measured.
    """
    memory = advice.memory
    if memory is None or memory.declined is not None or not memory.measured:
        return None
    axis = AdviceAxis(advice)
    training = _points(memory.measured, "training")
    evaluation = [
        row
        for row in _points(memory.evaluation_measured, "evaluation")
        if axis.holds(row["batch_size"])
    ]
    law = predicted_rows(memory, axis)
    room = left_bytes(memory)
    values = [row["value"] for row in (*training, *evaluation)]
    values += [row[name] for row in law for name in ("low", "high")]
    is_near = room is not None and room <= _FARTHEST_LIMIT * max(values)
    limits = [room] if room is not None and is_near else []
    y = vertical(
        [*values, *limits],
        "memory above the loaded process",
        label="format(datum.value, '~s') + 'B'",
    )
    tooltip = [
        altair.Tooltip("batch_size:Q", title="batch size", format=",d"),
        altair.Tooltip("work:N", title="in"),
        altair.Tooltip("memory:N", title="in use at once"),
        altair.Tooltip("held:N", title="held"),
    ]
    layers = [
        *line(law, axis, y),
        *(
            layer
            for limit in limits
            for layer in axis.level(limit, f"left by the limit: {bytes_text(limit)}", y)
        ),
        *(
            rows_chart(rows)
            .mark_point(filled=is_filled, size=42, opacity=1, style="measured", clip=True)
            .encode(x=axis.encoding, y=y, tooltip=tooltip)
            for rows, is_filled in ((evaluation, False), (training, True))
            if rows
        ),
    ]
    return panel(axis, layers, theme=theme, width=width)


def left_bytes(memory: Memory) -> float | None:
    """What the limit leaves for batches; None without a limit, or where it leaves nothing."""
    if memory.limit_bytes is None or memory.limit_bytes <= memory.loaded_bytes:
        return None
    return float(memory.limit_bytes - memory.loaded_bytes)


def predicted_rows(memory: Memory, axis: AdviceAxis) -> list[dict[str, Any]]:
    """The law at sizes of the axis, from the fit, or else from what was predicted."""
    if memory.fit is not None:
        pairs = [(size, memory.fit.bytes(size), memory.fit.high(size)) for size in axis.grid()]
    else:
        pairs = [
            (float(point.batch_size), point.bytes, point.high)
            for point in sorted(memory.predicted, key=lambda point: point.batch_size)
            if axis.holds(point.batch_size)
        ]
    return [
        {
            "batch_size": rounded(size),
            "value": rounded(max(expected, _LEAST_BYTES)),
            "low": rounded(max(expected, _LEAST_BYTES)),
            "high": rounded(max(high, _LEAST_BYTES)),
        }
        for size, expected, high in pairs
    ]


def _points(points: list[MemoryPoint], work: str) -> list[dict[str, Any]]:
    return [
        {
            "batch_size": point.batch_size,
            "value": rounded(max(float(point.bytes), _LEAST_BYTES)),
            "memory": bytes_text(point.bytes),
            "held": bytes_text(point.held_bytes),
            "work": work,
        }
        for point in points
    ]
