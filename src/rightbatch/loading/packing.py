"""`pack`: any data as a folder of .npy files that is mapped into memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from rightbatch.data.pack_source import open_to_pack
from rightbatch.data.packed import PackedDataset
from rightbatch.data.packing import PackProgress, write_pack
from rightbatch.data.tokenizers import Tokenizer
from rightbatch.errors import OptionError, did_you_mean
from rightbatch.loading.applied import Applied
from rightbatch.loading.parts import Part, Parts
from rightbatch.loading.transform import Function, Transform

PackedTransforms = Literal["leave", "apply"]


def pack(
    data: Any,
    folder: str | os.PathLike[str],
    *,
    transforms: PackedTransforms = "leave",
    overwrite: bool = False,
    progress: Callable[[PackProgress], None] | None = None,
    target: str | int | None = None,
    columns: Sequence[str | int] | None = None,
    header: bool | None = None,
    missing: str = "refuse",
    categories: str = "codes",
    on_bad_sample: str = "stop",
    max_bad: int | float | None = None,
    name: str | None = None,
    sequence_length: int | None = None,
    stride: int | None = None,
    tokenizer: Tokenizer | None = None,
    vocabulary_size: int | None = None,
) -> PackedDataset:
    """Write data to a folder of .npy files, one a column, and open it mapped into memory.

    `data` is a Dataset or anything that `open` takes, with its options from `target` on; CSV and
    Parquet files may be larger than memory. Order, values, dtypes, target and own parts
    stay as they are, so that a plan gives the same batches, and a cursor or a run of the source
    goes on with the pack. Samples of equal inputs are looked for, however large the data are.
    A column of entries that vary in length is two files, NAME.values.npy and NAME.offsets.npy.
    Beside the .npy files, which `numpy.load(mmap_mode="r")` opens, `manifest.json` says what they
    hold and where they came from, with a checksum for each block of rows (`verify_pack`).

    The data are read once, in spans of about 8 MiB. Until all is written, it lies in
    `FOLDER.partial`; a packing that was interrupted or killed goes on where it stopped when it is
    called again. Where `folder` holds the same data already, they are opened and nothing is
    written; `overwrite=True` replaces a pack, and never anything else.

    `transforms="leave"` leaves attached transforms to run when batches are made: the result has
    them attached. `"apply"` stores what they make, once: those of single samples that need no
    fitting (`scale`, `cast`, `flatten`, `one_hot` of a given number of classes). Several stacked
    inputs are then one column, `inputs`.

    `progress` is called with a `PackProgress` a few times a second.

    Raises OptionError where the folder is taken or a transform can not be applied, DataError where
    the data are refused, DiskSpaceError where the disk has no room, before or while writing.

    >>> import tempfile, rightbatch as rb
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     packed = rb.pack("iris", f"{folder}/iris")
    ...     packed.fingerprint == rb.open("iris").fingerprint
    True
    """
    if transforms not in ("leave", "apply"):
        raise OptionError(
            f"transforms={transforms!r} is not valid; valid are 'leave' and 'apply'."
            f"{did_you_mean(str(transforms), ('leave', 'apply'))}"
        )
    if isinstance(data, Part | Parts):
        raise OptionError(
            f"pack takes the data, and was given {type(data).__name__}: pack the data set, and "
            "split the pack with the same seed; it has the same parts"
        )
    data = open_to_pack(
        data,
        target=target,
        columns=columns,
        header=header,
        missing=missing,
        categories=categories,
        on_bad_sample=on_bad_sample,
        max_bad=max_bad,
        name=name,
        sequence_length=sequence_length,
        stride=stride,
        tokenizer=tokenizer,
        vocabulary_size=vocabulary_size,
    )
    attached = data.transforms
    if transforms == "leave":
        packed = write_pack(
            data,
            Path(folder),
            left_transforms=[_described(transform) for transform in attached],
            options={"transforms": transforms},
            overwrite=overwrite,
            progress=progress,
        )
        return packed.transform(*attached) if attached else packed
    if not attached:
        raise OptionError(
            f"transforms='apply' was asked for, and {data.name} has none attached; attach them "
            "with data.transform(…), or leave the option out"
        )
    applied = Applied(data, attached)
    return write_pack(
        applied,
        Path(folder),
        source=data,
        packed_transforms=[_described(transform) for transform in attached],
        options={"transforms": transforms},
        overwrite=overwrite,
        progress=progress,
    )


def _described(transform: object) -> dict[str, Any]:
    if isinstance(transform, Transform | Function):
        return transform.to_json()
    return {"kind": "function", "name": getattr(transform, "__qualname__", repr(transform))}
