"""The learning curve, the weights and the order of batches, whatever the number of ranks."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest

Scenarios = dict[str, list[Any]]
TOLERANCE = 1e-5
WITHIN = {"abs": TOLERANCE, "rel": TOLERANCE}
PROCESSES = 4
CURVES = (
    *("divides", "does not divide", "last smaller than ranks", "smaller than ranks", "full batch"),
    *("adam, penalties", "module", "module, last smaller than ranks", "module, micro-batches"),
    *("named, micro-batches", "mean loss", "quantities", "masked tokens", "balanced", "window"),
)


def same(found: dict[str, Any], alone: dict[str, Any]) -> None:
    """Fail unless two descriptions of a run are equal to the tolerance."""
    for name in ("steps", "weights"):
        assert found.get(name, []) == pytest.approx(alone.get(name, []), **WITHIN), name
    assert len(found["history"]) == len(alone["history"])
    for row, expected in zip(found["history"], alone["history"], strict=True):
        assert row == pytest.approx(expected, **WITHIN)
    assert found["leaked"] == 0


def test_every_curve_is_looked_at(scenarios: Scenarios) -> None:
    assert {name.partition("/")[0] for name in scenarios["curves"][0]} == set(CURVES)


@pytest.mark.parametrize("size", range(2, PROCESSES + 1))
@pytest.mark.parametrize("name", CURVES)
def test_the_curve_does_not_depend_on_the_number_of_ranks(
    scenarios: Scenarios, name: str, size: int
) -> None:
    curves = scenarios["curves"]
    alone = curves[0][f"{name}/1"]
    assert len(alone["steps"]) == alone["history"][-1]["steps"] > 0
    for rank in range(size):
        same(curves[rank][f"{name}/{size}"], alone)


@pytest.mark.parametrize("size", range(2, PROCESSES + 1))
@pytest.mark.parametrize("name", CURVES)
def test_all_ranks_hold_the_same_bits(scenarios: Scenarios, name: str, size: int) -> None:
    found = [scenarios["curves"][rank][f"{name}/{size}"] for rank in range(size)]
    assert all(each == found[0] for each in found)


@pytest.mark.parametrize("kind", ["named", "module"])
def test_a_run_goes_on_at_other_numbers_of_ranks_inside_epochs(
    scenarios: Scenarios, kind: str
) -> None:
    processes = scenarios["elastic"]
    alone = processes[0][f"{kind} rows alone"]
    batches = []
    for leg, size in enumerate((4, 2, 3)):
        shares = [processes[rank][f"{kind} rows"][leg] for rank in range(size)]
        assert len({len(share) for share in shares}) == 1
        batches += [list(chain.from_iterable(parts)) for parts in zip(*shares, strict=True)]
    assert batches == alone
    same(processes[0][kind], processes[0][f"{kind} alone"])


def test_a_model_that_was_handed_in_sharded_keeps_working(scenarios: Scenarios) -> None:
    alone = scenarios["sharded"][0]["whole"]
    for rank in range(3):
        found = scenarios["sharded"][rank]["divided"]
        same({**found, "steps": alone["steps"]}, alone)


def test_early_stopping_and_evaluation_are_agreed_on(scenarios: Scenarios) -> None:
    found = [scenarios["together"][rank] for rank in range(3)]
    early = [each["early"] for each in found]
    assert early[0] == early[1] == early[2]
    assert early[0]["best"] == len(early[0]["history"]) - 2 < 58
    best = early[0]["history"][early[0]["best"] - 1]
    for each in found:
        assert each["evaluated"]["loss"] == pytest.approx(best["val_loss"], abs=TOLERANCE)


def test_statistics_of_a_rank_are_taken_on_the_users_word(scenarios: Scenarios) -> None:
    found = [scenarios["together"][rank]["normalised"] for rank in range(3)]
    assert found[0]["history"] == found[1]["history"] == found[2]["history"]
    assert found[0]["history"][-1]["train_loss"] < found[0]["history"][0]["train_loss"]


def test_dropout_goes_on_as_it_would_have(scenarios: Scenarios) -> None:
    for rank in range(3):
        found = scenarios["together"][rank]
        assert found["dropout resumed"]["weights"] == found["dropout"]["weights"]
        assert found["dropout resumed"]["steps"] == found["dropout"]["steps"]


def test_a_loss_that_is_not_finite_stops_all_ranks_with_all_rows(scenarios: Scenarios) -> None:
    told = [scenarios["together"][rank]["not finite"] for rank in range(3)]
    assert told[0] == told[1] == told[2]
    step, rows = told[0]
    assert step > 1
    assert len(rows) == len(set(rows)) == 50


def test_bad_samples_of_all_ranks_are_left_out_and_counted_together(scenarios: Scenarios) -> None:
    found = [scenarios["together"][rank] for rank in range(3)]
    assert [each["bad"]["rows"] for each in found] == [[3, 14, 15, 40, 41]] * 3
    assert all(each["bad"] == found[0]["bad"] for each in found)
    # A rank that has too many of its own ends first, and the others learn that it has.
    told = [each["too bad"] for each in found]
    assert {kind for kind, _ in told} <= {"BadSampleError", "RankError"}
    assert any(kind == "BadSampleError" and "max_bad allows 2" in words for kind, words in told)


def test_bad_samples_of_the_validation_part_are_counted_by_all(scenarios: Scenarios) -> None:
    for rank in range(3):
        found = scenarios["together"][rank]["bad validation"]
        assert found["rows"] == [40, 41]
        assert "2 samples can not be read (rows 40, 41), and max_bad allows 1" in found["fit"]
        assert "3 samples can not be read (rows 3, 14, 15)" in found["evaluate"]


def test_an_option_that_one_rank_refuses_ends_the_others_too(scenarios: Scenarios) -> None:
    first, second = (scenarios["together"][rank]["refusing"] for rank in range(2))
    assert [kind for kind, _ in second] == ["OptionError", "RankError"]
    assert [kind for kind, _ in first] == ["RankError", "RankError"]
    # Without a folder there is no checkpoint to speak of.
    assert "Start all ranks again." in first[0][1]


def test_an_error_of_one_rank_ends_the_others_and_is_not_paired_up_with_later_exchanges(
    scenarios: Scenarios,
) -> None:
    first, second = (scenarios["together"][rank]["stumbled"] for rank in range(2))
    assert [kind for kind, _ in second] == ["ValueError", "RankError"]
    assert [kind for kind, _ in first] == ["RankError", "RankError"]
    assert "has ended, or can not be reached" in first[0][1]
    for told in (first, second):
        assert "has left its process group after an error" in told[1][1]
