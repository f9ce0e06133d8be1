"""The history: thinned step losses and strict JSON lines."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from rightbatch.training.history import MOST_STEP_LOSSES, JsonLines, StepLosses, to_json_line


def test_every_step_is_kept_up_to_ten_thousand():
    losses = StepLosses()
    assert all(losses.add(step, 1 / step) for step in range(1, MOST_STEP_LOSSES + 1))
    assert losses.pairs == [(step, 1 / step) for step in range(1, 10_001)]


def test_beyond_ten_thousand_every_second_step_is_kept_then_every_fourth():
    losses = StepLosses()
    for step in range(1, 10_002):
        losses.add(step, float(step))
    assert [step for step, _ in losses.pairs] == list(range(1, 10_002, 2))
    for step in range(10_002, 20_002):
        losses.add(step, float(step))
    assert [step for step, _ in losses.pairs] == list(range(1, 20_002, 4))
    assert all(loss == step for step, loss in losses.pairs)


@given(most=st.integers(1, 9), total=st.integers(0, 200), stop=st.integers(0, 200))
def test_which_steps_are_kept_depends_on_their_number_alone(most, total, stop):
    whole, interrupted = StepLosses(most=most), StepLosses(most=most)
    for step in range(1, total + 1):
        whole.add(step, float(step))
        interrupted.add(step, float(step))
        if step == stop:
            resumed = StepLosses(most=most)
            resumed.restore(interrupted.stride, *interrupted.arrays())
            interrupted = resumed
    assert interrupted.pairs == whole.pairs
    assert len(whole.pairs) <= most
    assert whole.stride & (whole.stride - 1) == 0
    kept = [step for step, _ in whole.pairs]
    assert kept == list(range(1, total + 1, whole.stride))


def refuse_constant(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


@given(
    st.dictionaries(
        st.text(max_size=5), st.floats() | st.integers() | st.none() | st.text(max_size=5)
    )
)
def test_a_line_is_strict_json_and_loses_no_finite_value(row):
    line = to_json_line(row)
    assert line.endswith("\n")
    assert line.count("\n") == 1
    read = json.loads(line, parse_constant=refuse_constant)
    for name, value in row.items():
        is_lost = isinstance(value, float) and not math.isfinite(value)
        assert read[name] == (None if is_lost else value)


def test_rows_wait_until_flushed_and_a_rewrite_forgets_them(tmp_path):
    lines = JsonLines(tmp_path / "rows.jsonl")
    lines.flush()
    assert not lines.path.exists(), "nothing to write is no file"
    lines.add({"a": 1})
    assert not lines.path.exists()
    lines.flush()
    lines.add({"a": 2})
    lines.flush()
    lines.flush()
    assert lines.path.read_text() == '{"a": 1}\n{"a": 2}\n'
    lines.add({"a": 3})
    lines.rewrite([{"a": 7}])
    lines.flush()
    assert lines.path.read_text() == '{"a": 7}\n'
