"""`split`: train, validation and test parts, divided before anything is shuffled."""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.dataset import Dataset
from rightbatch.data.duplicates import content_bytes
from rightbatch.data.opening import open as open_data
from rightbatch.data.without_input import WithoutInput
from rightbatch.errors import DataError, DuplicateError, OptionError, did_you_mean
from rightbatch.loading.duplicate_counts import (
    count_duplicates,
    count_known_duplicates,
    groups_of_known,
)
from rightbatch.loading.parts import Part, Parts
from rightbatch.loading.split_codes import column_codes, content_groups, merged_groups
from rightbatch.plan.checks import whole_number
from rightbatch.plan.row_set import RowSet
from rightbatch.plan.split import contiguous_rows, part_sizes, split_rows

logger = logging.getLogger(__name__)

OnDuplicates = Literal["report", "error", "together"]

CONTENT_LIMIT_BYTES = 1 << 30


def split(
    data: Any,
    *,
    val: float | None = None,
    test: float | None = None,
    stratify: bool | str | None = None,
    group: str | None = None,
    weights: str | None = None,
    seed: int = 0,
    on_duplicates: OnDuplicates = "report",
    contiguous: bool = False,
) -> Parts:
    """Divide the samples into train, validation and test parts, before anything is shuffled.

    `val` and `test` are counts (integers) or shares of the whole (fractions below 1, rounded by
    largest remainder); what is not asked for is not held out. Data that bring their own test or
    validation part keep it, and shares are then of their own train part. `stratify=True` keeps the
    classes of the target in proportion, `stratify="column"` those of another column;
    `group="column"` keeps samples of one group on one side, and that column is no input then. Nor
    is the column `weights="column"`, by which `Batches` and `fit` are to draw. The split depends on
    `seed` and the number of samples and never on an epoch's order, so reshuffling can not move a
    sample across.

    `contiguous=True` cuts the rows in their order instead: train first, then val, then test, as
    for time series and text. Windows of a stream that overlap are split in no other way, for one
    window would hold most of another on the other side; between the parts as many are left out,
    with a warning, as share a token with a held-out one (see `Dataset.overlap`).

    Samples whose inputs are equal byte for byte and stand on both sides are counted
    (`on_duplicates="report"`), refused (`"error"`, raises DuplicateError) or treated as a group
    (`"together"`). The count is made for data up to 1 GiB, for packed data of any size (they know
    their duplicates), and for others, and for a torch data set's own code, where one of the latter
    two asks.

    Raises OptionError where the sizes or options are not valid, DataError where the data do not
    allow them.

    >>> import rightbatch as rb
    >>> rb.split(rb.open("digits"), val=0.1, test=0.1, seed=7)
    <Parts of digits: train 1,437, val 180, test 180>
    """
    data = data if isinstance(data, Dataset) else open_data(data)
    if on_duplicates not in ("report", "error", "together"):
        raise OptionError(
            f"on_duplicates={on_duplicates!r} is not valid; valid are 'report', 'error' and "
            f"'together'.{did_you_mean(str(on_duplicates), ('report', 'error', 'together'))}"
        )
    seed = whole_number("seed", seed)
    if group is not None and group == data.target:
        raise OptionError(
            f"group={group!r} is the target of {data.name}: samples of one class would all be on "
            "one side. Give the column that says which samples belong together, or stratify=True"
        )
    if group is not None and any(column.name == group for column in data.inputs):
        # It says which samples belong together, and is not to be learned from.
        data = WithoutInput(data, group)
    if weights is not None and weights == data.target:
        raise OptionError(
            f"weights={weights!r} is the target of {data.name}: name the column that says how "
            'often a sample is to come, or train with weights="balanced"'
        )
    if weights is not None and weights not in [column.name for column in data.inputs]:
        if weights == "balanced":
            raise OptionError(
                'weights="balanced" needs no column and so nothing of a split: give it to Batches '
                "or fit"
            )
        _refuse_no_weights(data, weights)  # the group may be it
    elif weights is not None:
        data = WithoutInput(data, weights)
    own_test = data.own_parts.get("test")
    if own_test is not None and test is not None:
        raise OptionError(
            f"{data.name} brings its own test part of {len(own_test):,} samples, and test={test} "
            "asks for another one: leave test out"
        )
    own_val = data.own_parts.get("val")
    if own_val is not None and val is not None:
        raise OptionError(
            f"{data.name} brings its own validation part of {len(own_val):,} samples, and "
            f"val={val} asks for another one: leave val out"
        )
    _check_contiguous(
        data,
        contiguous,
        holds_out=bool(val or test),
        others={
            "stratify": stratify,
            "group": group,
            "on_duplicates": on_duplicates if on_duplicates == "together" else None,
        },
    )
    own_train = data.own_parts.get("train", range(len(data)))
    candidates = RowSet.from_range(len(data), own_train.start, own_train.stop)

    asked = on_duplicates != "report"
    content = None
    known = data.known_duplicates
    if known is not None:
        if on_duplicates == "together":
            content = groups_of_known(len(data), known)
    elif asked or (not data.runs_others_code and content_bytes(data) <= CONTENT_LIMIT_BYTES):
        content = content_groups(data, asked=asked)
    groups = None if group is None else column_codes(data, group, "group", candidates)
    if on_duplicates == "together" and content is not None:
        groups = merged_groups(groups, content[own_train.start : own_train.stop])
    strata = None
    if stratify:
        column = data.target if stratify is True else stratify
        if column is None:
            raise OptionError(
                f"stratify=True needs a target and {data.name} has none: name the column of "
                "classes, stratify='column', or the target when opening"
            )
        strata = column_codes(data, column, "stratify", candidates)

    if contiguous:
        rows = contiguous_rows(candidates, val=val, test=test, gap=data.overlap)
        left_out = len(candidates) - sum(map(len, rows.values()))
        if left_out:
            logger.warning(
                f"{data.name}: {left_out:,} windows between the parts share tokens with the part "
                "that follows them, and are in none"
            )
    else:
        rows = split_rows(candidates, val=val, test=test, seed=seed, strata=strata, groups=groups)
    if groups is not None:
        _warn_of_sizes(data.name, rows, part_sizes(len(candidates), val, test), groups)
    for name, own in (("val", own_val), ("test", own_test)):
        if own is not None:
            rows[name] = RowSet.from_range(len(data), own.start, own.stop)
    made = {
        name: Part(data=data, rows=members, name=name)
        for name, members in rows.items()
        if len(members) or name == "train"
    }
    duplicates = None
    rows_by_part = {name: part.rows for name, part in made.items()}
    if known is not None:
        duplicates = count_known_duplicates(known, rows_by_part)
    elif content is not None:
        duplicates = count_duplicates(content, rows_by_part)
    if duplicates:
        remedy = (
            "they stand in the test part that the data bring"
            if on_duplicates == "together"
            else "keep equal samples on one side with on_duplicates='together' "
            "(--on-duplicates together)"
        )
        message = (
            f"{data.name}: {duplicates:,} held-out samples have inputs equal to those of a sample "
            f"on the other side of the split; {remedy}"
        )
        if on_duplicates == "error":
            raise DuplicateError(message)
        logger.warning(message)
    parts = Parts(
        data=data,
        train=made["train"],
        val=made.get("val"),
        test=made.get("test"),
        seed=seed,
        duplicate_samples=duplicates,
        settings={
            "val": val,
            "test": test,
            "stratify": stratify,
            "group": group,
            "weights": weights,
            "seed": seed,
            "on_duplicates": on_duplicates,
            # Where it is asked for: what the runs of other splits say stays as it was.
            **({"contiguous": True} if contiguous else {}),
        },
    )
    attached: Any = data.transforms
    return parts.transform(*attached) if attached else parts


def _refuse_no_weights(data: Dataset, weights: str) -> None:
    names = [column.name for column in data.columns]
    if weights not in names:
        raise DataError(
            f"weights={weights!r}: {data.name} has no column {weights!r}."
            f"{did_you_mean(weights, [*names, 'balanced'])} Its columns are: {', '.join(names)}; "
            "'balanced' makes the classes of the target equally likely."
        )


def _check_contiguous(
    data: Dataset, contiguous: bool, *, holds_out: bool, others: dict[str, Any]
) -> None:
    """OptionError where options contradict a cut in order, or overlapping rows call for one."""
    if contiguous:
        for name, value in others.items():
            if value:
                raise OptionError(
                    f"{name}={value!r} chooses which samples go together, and contiguous=True cuts "
                    "them in their order: leave out one of the two"
                )
    elif holds_out and data.overlap:
        raise OptionError(
            f"the windows of {data.name} overlap: each shares tokens with the {data.overlap:,} "
            "that follow it, so that a random split would put most of a held-out window into "
            "training. Split with contiguous=True (--contiguous), or open the data with a stride "
            "of sequence_length at least"
        )


def _warn_of_sizes(
    name: str,
    rows: dict[str, RowSet],
    asked: tuple[int, int, int],
    groups: NDArray[np.int64],
) -> None:
    """Say so where groups, which are never cut, made a part far from what was asked for."""
    for part, wanted in zip(("train", "val", "test"), asked, strict=True):
        if abs(len(rows[part]) - wanted) > 0.1 * wanted:
            sizes = np.bincount(groups)
            logger.warning(
                f"{name}: {part} has {len(rows[part]):,} samples where {wanted:,} were asked for: "
                f"there are {np.count_nonzero(sizes):,} groups, the largest of {sizes.max():,} "
                "samples, and no group is cut"
            )
