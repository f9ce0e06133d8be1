"""Token batches: the lengths of a part's samples measured once, and the plan that follows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rightbatch.data.ragged import Ragged
from rightbatch.errors import DataError, OptionError
from rightbatch.loading.decode_images import DecodeImages
from rightbatch.loading.encoded_image import EncodedImage
from rightbatch.loading.pad import Pad, agreed_lengths, pad
from rightbatch.loading.parts import AnyTransform, Part, Parts
from rightbatch.loading.pipeline import Pipeline
from rightbatch.loading.tokenize import Tokenize
from rightbatch.loading.transform import Function
from rightbatch.plan.checks import whole_number
from rightbatch.plan.row_set import RowSet
from rightbatch.plan.token_plan import TokenPlan

logger = logging.getLogger(__name__)

# Samples whose lengths are measured are read in pieces of about this size, as long as they are
# read whole; of offsets that lie in a map, so many rows at a time.
_PIECE_BYTES = 4 << 20
_PIECE_ROWS = 1 << 18
_MOST_ROWS = 4096


def refuse_with_tokens(options: dict[str, Any], *, drawn: str | None = None) -> None:
    """OptionError where options are given that have no meaning for batches of tokens.

    `drawn` is what messages call an order that draws samples.

    >>> refuse_with_tokens({"batch_size": None, "window": 8})
    Traceback (most recent call last):
    rightbatch.errors.OptionError: batch_tokens and window=8 contradict each other: samples are \
shuffled inside of their length buckets and all batches among them; leave window out
    """
    for name, reason in _REASONS.items():
        value = options.get(name)
        is_unused = value is None or (isinstance(value, str) and value == _UNUSED.get(name))
        if not is_unused:
            raise OptionError(f"batch_tokens and {name}={value!r} contradict each other: {reason}")
    if drawn is not None:
        raise OptionError(
            f"batch_tokens and {drawn} contradict each other: token batches take every sample "
            "once; give batch_size and rb.pad()"
        )


def refuse_without_tokens(batch_size: int | str | None, bucket_edges: Sequence[int] | None) -> None:
    """OptionError where nothing says how large a batch is, or edges are given for no tokens."""
    if batch_size is None:
        raise OptionError(
            "say how large a batch is: Batches(part, 128), or for samples that vary in length "
            "Batches(part, batch_tokens=4096)"
        )
    if bucket_edges is not None:
        raise OptionError(
            "bucket_edges are the length buckets of batch_tokens: give batch_tokens too"
        )


_UNUSED = {"remainder": "keep", "on_bad_sample": "stop"}
_REASONS = {
    "batch_size": "how many samples a batch holds follows from their lengths; give one of the two",
    "window": "samples are shuffled inside of their length buckets and all batches among them; "
    "leave window out",
    "block": "samples are shuffled inside of their length buckets; leave block out",
    "memory": "windows of consecutive samples have all lengths, and batches have one; leave memory "
    "out, and samples are read from their files batch by batch",
    "remainder": "every bucket ends with a batch of what is left, which is kept; leave remainder "
    "out",
    "weights": "every sample is taken once; give batch_size, and rb.pad() makes the arrays",
    "evaluation_batch_size": "validation goes in batches of as many tokens; leave it out",
    "on_bad_sample": "the lengths of all samples are measured first, so all have to be read; leave "
    "it out, or take batch_size",
}


def with_padding(part: Part) -> Part:
    """The part, its batches padded: by its own `pad()`, or by one at the end of its transforms.

    Raises OptionError where a batch holds nothing that varies in length, or encoded images.
    """
    if pad_of(part) is not None:
        return part
    inputs, target = part.example()
    fields = list(inputs.values()) if isinstance(inputs, dict) else [inputs]
    names = list(inputs) if isinstance(inputs, dict) else [part.data.inputs[0].name]
    for name, values in zip(names, fields, strict=True):
        if _is_image(values):
            raise OptionError(
                f"{name!r} of {part.data.name} holds encoded images, whose bytes are no tokens: "
                "decode them, parts.transform(rb.decode_images(224)) (--image-size 224), and give "
                "batch_size"
            )
    if not any(isinstance(values, Ragged) for values in (*fields, target)):
        made = " after the functions that are attached" if part.transforms else ""
        raise OptionError(
            f"batch_tokens counts the entries of samples that vary in length, and a batch of "
            f"{part.data.name} holds none{made}: give batch_size. Where a function pads them, "
            "leave it out, or put rb.pad() in its place"
        )
    return replace(part, transforms=(*part.transforms, pad()))


def _is_image(values: Any) -> bool:
    """Whether a field of an example batch is the file of an image."""
    if not isinstance(values, Ragged) or values.dtype != np.uint8 or values.shape or values.is_text:
        return False
    try:
        EncodedImage(values[0])
    except DataError:
        return False
    return True


def parts_with_padding(parts: Parts) -> Parts:
    """Parts whose batches are padded, as `with_padding` says of one of them."""
    padded = with_padding(parts.train)
    return parts if padded is parts.train else parts.transform(padded.transforms[-1])


def with_padding_of(part: Part, transforms: Sequence[AnyTransform]) -> Part:
    """The part, padded as a model has learned, where it has nothing that pads."""
    learned = next((step for step in transforms if isinstance(step, Pad)), None)
    if learned is None or pad_of(part) is not None:
        return part
    return replace(part, transforms=(*part.transforms, learned))


def pad_of(part: Part) -> Pad | None:
    """The `pad()` among the transforms of a part."""
    return next((step for step in part.transforms if isinstance(step, Pad)), None)


def limited_part(part: Part, tokens: int) -> Part:
    """The part, refusing padded batches of more than so many tokens."""
    tokens = whole_number("batch_tokens", tokens, at_least=1)
    steps = [
        step.limited(tokens) if isinstance(step, Pad) else step
        for step in with_padding(part).transforms
    ]
    return replace(part, transforms=tuple(steps))


def token_plan(
    part: Part, tokens: int, *, shuffle: bool, seed: int, edges: Iterable[int] | None
) -> tuple[TokenPlan, int]:
    """The plan of a part that is padded, and how many of its samples `pad(longest=…)` cuts.

    Raises DataError, naming row and length, where a sample alone has more tokens than a batch may.
    """
    tokens = whole_number("batch_tokens", tokens, at_least=1)
    padding = pad_of(part)
    assert padding is not None  # as `with_padding` has seen to
    lengths = measured_lengths(part)
    padded = padding.padded_lengths(lengths)
    place = int(padded.argmax())
    if padded[place] > tokens:
        row = int(part.rows.take(np.array([place]))[0])
        rounded = (
            "" if padded[place] == lengths[place] else f" ({padded[place]:,} with its padding)"
        )
        count = int(np.count_nonzero(padded > tokens))
        longest = max(1, tokens // padding.multiple_of) * padding.multiple_of
        others = f", and {count - 1:,} more have too many" if count > 1 else ""
        raise DataError(
            f"row {row:,} of {part.data.name} has {lengths[place]:,} tokens{rounded}, and a batch "
            f"holds {tokens:,}{others}: take batch_tokens={padded[place]} or more, leave such "
            "samples out, or have them cut: "
            f"parts.transform(rb.pad(longest={longest}))"
        )
    cut = 0 if padding.longest is None else int(np.count_nonzero(lengths > padding.longest))
    if cut:
        logger.warning(
            f"{part.data.name}, {part.name}: {cut:,} of {len(lengths):,} samples are longer than "
            f"{padding.longest:,} and are cut"
        )
    plan = TokenPlan.of(padded, tokens=tokens, shuffle=shuffle, seed=seed, edges=edges)
    return plan, cut


def measured_lengths(part: Part) -> NDArray[np.int64]:
    """The lengths of a part's samples as `pad()` meets them, (N,) of int64, in the part's order.

    They are read off the offsets where nothing changes them on the way; else the samples are read
    once, a few at a time, and go through what comes before.
    """
    place = next(k for k, step in enumerate(part.transforms) if isinstance(step, Pad))
    before, padding = part.transforms[:place], part.transforms[place]
    assert isinstance(padding, Pad)  # it has just been found
    lengths = np.empty(len(part), np.int64)
    if not any(isinstance(step, (DecodeImages, Function, Tokenize)) for step in before):
        columns = [column.name for column in part.data.inputs if column.is_ragged]
        target = part.data.target
        if not columns and target is not None and part.data.column(target).is_ragged:
            columns = [target]
        ragged = {name: part.data.ragged(name) for name in columns}
        mapped = {name: entries for name, entries in ragged.items() if entries is not None}
        if len(mapped) == len(ragged):
            for span, rows in _pieces(part.rows, _PIECE_ROWS):
                found = {
                    name: entries.offsets[rows + 1] - entries.offsets[rows]
                    for name, entries in mapped.items()
                }
                is_target = columns == [target]
                lengths[span] = agreed_lengths(
                    found, None if is_target else padding.lengths_of, rows
                )
            return lengths
    pipeline = Pipeline(part.data, before, stacks=False)
    named = padding.of_fields(pipeline.input_names)
    step = min(_MOST_ROWS, max(1, _PIECE_BYTES // pipeline.sample_bytes))
    for span, rows in _pieces(part.rows, step):
        inputs, target_values = pipeline.finish(pipeline.gather(rows), rows, seed=0, epoch=0)
        measured = named.lengths(inputs, target_values, rows)
        if measured is None:
            raise OptionError(
                f"batch_tokens counts the entries of samples that vary in length, and where pad() "
                f"begins, a batch of {part.data.name} holds none: put pad() before the function "
                "that makes arrays, or give batch_size"
            )
        lengths[span] = measured
    part.data.release_pages()
    return lengths


def _pieces(rows: RowSet, step: int) -> Iterator[tuple[slice, NDArray[np.int64]]]:
    for start in range(0, len(rows), step):
        stop = min(start + step, len(rows))
        yield slice(start, stop), rows.take(np.arange(start, stop))
