"""The course's comparison at full length: four batch sizes, 500 epochs, one report."""

from __future__ import annotations

import pytest

import rightbatch as rb


@pytest.mark.slow
def test_four_batch_sizes_for_500_epochs_and_their_landscape_in_one_report(tmp_path):
    parts = rb.split(rb.open("breast_cancer"), val=0.16, test=0.2, stratify=True, seed=1)
    study = rb.compare(
        "mlp:10", parts.transform(rb.standardize()), batch_sizes=[1, 32, 128, "full"], epochs=500,
        learning_rate=0.1, activation="sigmoid", seed=1, threads=1,
    )  # fmt: skip
    losses = [[row["train_loss"] for row in curve.history] for curve in study.curves]
    assert [len(rows) for rows in losses] == [500] * 4
    for one, small, middle, full in zip(*losses, strict=True):
        assert one < small < full
        assert middle <= full
    # The first epochs of 128 have three steps each, and start where 32 is already down.
    assert all(small < middle for small, middle in zip(losses[1], losses[2], strict=True))
    assert study.landscape is not None
    assert [path.label for path in study.landscape.paths] == [c.label for c in study.curves]
    page = rb.write_report(tmp_path / "report.html", study)
    text = page.read_text(encoding="utf-8")
    assert all(curve.label in text for curve in study.curves)
    assert "figure-landscape" in text
    assert page.stat().st_size < 2_000_000
