"""`rightbatch pack DATA FOLDER`: data as a folder of .npy files, whole or found damaged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rightbatch.byte_sizes import bytes_text
from rightbatch.cli.data_options import image_size_option, reading_options
from rightbatch.cli.failure import INTERRUPTED
from rightbatch.cli.options import (
    given_on_command_line,
    output_options,
)
from rightbatch.cli.output import Output, command_line
from rightbatch.cli.parameters import ThemedCommand, stacked, themed
from rightbatch.cli.progress import pack_display
from rightbatch.errors import DataError

if TYPE_CHECKING:
    from rightbatch.data.dataset import Dataset
    from rightbatch.data.pack_verification import PackFault
    from rightbatch.data.packed import PackedDataset
    from rightbatch.loading.packing import PackedTransforms

_SHOWN_FAULTS = 100
_packing = themed("Packing")

_packing_options = stacked(
    _packing(
        "--overwrite",
        is_flag=True,
        help="Replace a pack of other data in FOLDER, and begin an unfinished one anew where it "
        "is of other data; nothing but a pack is ever replaced.",
    ),
    _packing(
        "--verify",
        metavar="FOLDER",
        help="Read all of a packed folder and name every damaged file and its rows.",
    ),
)


@click.command(
    cls=ThemedCommand,
    epilog="""\b
Examples:
  rightbatch pack digits packed/digits
  rightbatch pack "trips/*.parquet" packed/trips --target fare_amount --missing drop
  rightbatch train packed/trips
  rightbatch pack $RIGHTBATCH_DATA/flowers packed/flowers --image-size 64
  rightbatch pack --verify packed/trips

JSON keys: folder, samples, columns, bytes, duplicates, seconds, bytes_per_second, and
fingerprint, target, already_packed, notes. With --verify: folder, whole, bytes, seconds,
faults [{file, start, stop, problem}]; a pack that is not whole exits with 3.

FOLDER.partial holds what is packed until all is. Where packing was interrupted, the same
command goes on. numpy.load(FILE, mmap_mode="r") opens every file of FOLDER.
""",
)
@click.argument("data", required=False)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@reading_options
@image_size_option
@_packing_options
@output_options
def pack(
    data: str | None,
    folder: Path | None,
    verify: str | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
    image_size: int | tuple[int, int] | None,
    **reading: Any,
) -> None:
    """Write DATA to FOLDER as .npy files that are read without being loaded, or verify them.

    The other verbs take FOLDER as their DATA; order and content are those of DATA.
    """
    output = Output(as_json=as_json, quiet=quiet)
    if verify is not None:
        _refuse_beside_verify(data)
        _verify(verify, output)
    elif data is None or folder is None:
        raise click.UsageError(
            "Name the DATA to pack and the FOLDER to write, or a packed folder to look through: "
            "--verify FOLDER."
        )
    else:
        _pack(data, folder, reading, image_size, overwrite=overwrite, output=output)


def _pack(
    given: str,
    folder: Path,
    reading: dict[str, Any],
    image_size: int | tuple[int, int] | None,
    *,
    overwrite: bool,
    output: Output,
) -> None:
    from rightbatch.data.pack_source import open_to_pack
    from rightbatch.data.packing import packed_bytes
    from rightbatch.data.packing_folder import is_unfinished, partial_folder
    from rightbatch.loading.applied import Applied
    from rightbatch.loading.decode_images import decode_images
    from rightbatch.loading.packing import pack as pack_data

    with pack_display(quiet=output.quiet) as display:
        data = open_to_pack(
            given,
            estimated=lambda estimate: output.note(f"Converting {estimate}"),
            watch=None if display is None else partial(display.show, "looked through"),
            **reading,
        )
    transforms: PackedTransforms = "leave"
    size = packed_bytes(data)
    if image_size is not None:
        data, transforms = data.transform(decode_images(image_size)), "apply"
        size = packed_bytes(Applied(data, data.transforms))
    unfinished = partial_folder(folder.absolute())
    output.note(
        f"Packing {data.name}: {len(data):,} samples, "
        f"{len(data.columns):,} columns, {bytes_text(size)}"
    )
    began = time.monotonic()
    try:
        with pack_display(quiet=output.quiet) as display:
            packed = pack_data(
                data, folder, transforms=transforms, overwrite=overwrite, progress=display
            )
    except KeyboardInterrupt:
        kept = is_unfinished(unfinished)
        hint = f" {unfinished} is kept; go on with: {command_line()}" if kept else ""
        click.echo(f"Interrupted.{hint}", err=True)
        click.get_current_context().exit(INTERRUPTED)
    seconds = time.monotonic() - began
    report = _report(packed, folder, size, seconds)
    output.result(_texts(report, data), report)


def _report(packed: PackedDataset, folder: Path, size: int, seconds: float) -> dict[str, Any]:
    already = any("nothing was written" in note for note in packed.notes)
    return {
        "folder": str(folder),
        "samples": len(packed),
        "columns": len(packed.columns),
        "target": packed.target,
        "bytes": packed.manifest.files_bytes,
        "duplicates": packed.manifest.duplicate_rows,
        "seconds": seconds,
        "bytes_per_second": None if already else size / max(seconds, 1e-9),
        "fingerprint": packed.fingerprint,
        "already_packed": already,
        "notes": list(packed.notes),
    }


def _texts(report: dict[str, Any], data: Dataset) -> Iterator[str]:
    yield (
        f"{report['folder']}: {report['samples']:,} samples, {report['columns']:,} columns, "
        f"{bytes_text(report['bytes'])}"
    )
    count = report["duplicates"]
    yield (
        f"Duplicates: {count:,} samples have inputs equal to those of an earlier one"
        if count
        else "Duplicates: none"
    )
    if not report["already_packed"]:
        speed = report["bytes_per_second"] / 1e6
        yield f"Packed {data.name} in {report['seconds']:.1f} s, {speed:,.0f} MB/s"
    for note in report["notes"]:
        yield f"Note: {note}"


def _refuse_beside_verify(data: str | None) -> None:
    """Verifying takes the pack as it is: everything but the output's options is a mistake."""
    given = set(given_on_command_line(click.get_current_context()))
    others = sorted(given - {"verify", "as_json", "quiet", "data", "folder"})
    if data is not None or others:
        what = "DATA" if data is not None else f"--{others[0].replace('_', '-')}"
        raise click.UsageError(
            f"--verify takes the packed folder alone, and {what} was given too: "
            "rightbatch pack --verify FOLDER."
        )


def _verify(folder: str, output: Output) -> None:
    from rightbatch.data.pack_verification import verify_pack

    began = time.monotonic()
    read_bytes = 0
    with pack_display(quiet=output.quiet) as display:

        def told(done_bytes: int, total_bytes: int) -> None:
            nonlocal read_bytes
            read_bytes = done_bytes
            if display is not None:
                display.show("verified", done_bytes, total_bytes)

        faults = verify_pack(folder, progress=told)
    seconds = time.monotonic() - began
    output.result(
        _fault_texts(folder, faults, read_bytes, seconds),
        {
            "folder": folder,
            "whole": not faults,
            "bytes": read_bytes,
            "seconds": seconds,
            "faults": [vars(fault) for fault in faults],
        },
    )
    if faults:
        click.get_current_context().exit(DataError.exit_code)


def _fault_texts(
    folder: str, faults: list[PackFault], read_bytes: int, seconds: float
) -> Iterator[str]:
    if not faults:
        yield f"{folder} is whole: {bytes_text(read_bytes)} read in {seconds:.1f} s"
        return
    for fault in faults[:_SHOWN_FAULTS]:
        yield str(fault)
    if len(faults) > _SHOWN_FAULTS:
        yield f"… and {len(faults) - _SHOWN_FAULTS:,} more"
    yield (
        f"{folder} is damaged: {len(faults):,} fault{'' if len(faults) == 1 else 's'}. Put the "
        "files back from a copy, or pack the data anew: rightbatch pack DATA FOLDER --overwrite"
    )
