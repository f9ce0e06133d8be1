"""Ranks that do not belong together, and models that ranks would change, are refused."""

from __future__ import annotations

from typing import Any

import pytest

Scenarios = dict[str, list[Any]]

DIFFERING = {
    "seed": ["RankError", "seed is 1 on rank 1 and 0 on rank 0"],
    "data": ["RankError", "split seed is 8 on rank 1 and 7 on rank 0"],
    "option": ["RankError", "learning_rate is 0.2 on rank 1 and 0.1 on rank 0"],
    "model": ["RankError", "model is 'mlp:8' on rank 1 and 'mlp:4' on rank 0"],
    "transforms": ["RankError", "transforms is ["],
    "loss": ["RankError", "what the loss is made of is '"],
    "setting of a loss": ["RankError", "what the loss is made of is '"],
    "values of a loss": ["RankError", "what the loss is made of is '"],
    "a layer of several": ["RankError", "what the model is made of is '"],
    "a function of a model": ["RankError", "what the model is made of is '"],
    "evaluate": ["RankError", "the digest of the model's weights is '"],
    "more is described": ["RankError", "note is 1 on rank 1 and not given on rank 0"],
    "less is described": ["RankError", "note is not given on rank 1 and 1 on rank 0"],
    "closure": ["RankError", "what the loss is made of is '"],
    "setting of a model": ["RankError", "what the model is made of is '"],
    "version": ["RankError", "the version of rightbatch is '9.9' on rank 1"],
}
REFUSED = {
    "batch norm": ["OptionError", "batch_statistics='rank'"],
    "batch norm synchronised": ["OptionError", "works on GPUs alone"],
    "batch norm small": ["OptionError", "it takes two to normalise"],
    "coupled": ["OptionError", "what the model says of a sample depends on the samples beside it"],
    "coupled, a sample a rank": ["OptionError", "what the model says of a sample depends on"],
    "named, coupled loss": ["OptionError", "what the loss says of a sample depends on"],
    "contrastive": ["OptionError", "what the loss says of a sample depends on the samples beside"],
    "unused": ["OptionError", "freeze them (requires_grad_(False))"],
    "wrapped": ["OptionError", "give the module in it"],
    "no run": ["ResumeError", "is no run folder"],
}


@pytest.mark.parametrize("name", [*DIFFERING, *REFUSED])
def test_every_rank_is_told(scenarios: Scenarios, name: str) -> None:
    kind, words = {**DIFFERING, **REFUSED}[name]
    for rank in range(2):
        said = scenarios["refusals"][rank][name]
        assert said is not None
        assert said[0] == kind
        assert words in said[1]


def test_what_is_no_number_equals_itself(scenarios: Scenarios) -> None:
    assert [scenarios["refusals"][rank]["no number"] for rank in range(2)] == [None, None]


@pytest.mark.parametrize("name", DIFFERING)
def test_what_is_alike_is_not_named(scenarios: Scenarios, name: str) -> None:
    _, words = scenarios["refusals"][0][name]
    assert words.count(" on rank 1 ") == 1 or name in ("data", "transforms", "model", "loss")
    assert "Start all of them with the same program" in words
