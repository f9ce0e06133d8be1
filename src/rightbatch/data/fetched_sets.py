"""Known sets on this machine: where they lie, whether they are whole, and opening by name.

Nothing here speaks to the network: `rightbatch.fetching` does, on the user's word alone.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from rightbatch.byte_sizes import bytes_text
from rightbatch.data import cifar, idx
from rightbatch.data.array_dataset import ArrayDataset
from rightbatch.data.known_sets import KNOWN_SETS, KnownSet
from rightbatch.data.options import OpenOptions

_ADULT_COLUMNS = (
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
)


def data_home() -> Path:
    """The folder that holds a folder for each fetched set.

    `$RIGHTBATCH_HOME`, or else `$XDG_DATA_HOME/rightbatch`, or else `~/.local/share/rightbatch`,
    on macOS as well.
    """
    own = os.environ.get("RIGHTBATCH_HOME")
    if own:
        return Path(own).expanduser().absolute()
    xdg = Path(os.environ.get("XDG_DATA_HOME", ""))
    # XDG's own rule: a path that is not absolute does not count.
    base = xdg if xdg.is_absolute() else Path.home() / ".local" / "share"
    return base / "rightbatch"


def lacking_files(known: KnownSet, folder: Path) -> list[str]:
    """The files of the set that are not in `folder`, or not in their full size."""
    return [
        file.name
        for file in known.kept
        if not (folder / file.name).is_file() or (folder / file.name).stat().st_size != file.bytes
    ]


def is_fetched(name: object) -> bool:
    """Whether `name` is that of a known set whose files are all here."""
    known = KNOWN_SETS.get(name) if isinstance(name, str) else None
    return known is not None and not lacking_files(known, data_home() / known.name)


def not_fetched(known: KnownSet) -> str:
    """What to tell somebody who asks for a set that is not here, or not whole."""
    folder = data_home() / known.name
    lacking = lacking_files(known, folder)
    cut = [name for name in lacking if (folder / name).exists()]
    state = "not on this machine yet"
    if cut:
        state = f"not whole: {folder / cut[0]} has another size than the published file"
    elif len(lacking) < len(known.kept):
        state = f"not whole: {folder} lacks {', '.join(lacking)}"
    return (
        f"{known.name} is {state}. Fetch it once, {bytes_text(known.download_bytes)} from the "
        f"network: rightbatch fetch {known.name}, or rb.fetch({known.name!r}) in Python."
    )


def open_fetched(name: str, options: OpenOptions) -> ArrayDataset:
    """The fetched set called `name`, opened from its folder; `is_fetched` says that it is there.

    Adult has the names of its columns, and `income` as target unless another one is chosen.
    """
    folder = data_home() / name
    options = replace(options, name=options.name or name)
    if name == "adult":
        data = _open_adult(folder / "adult.data", options)
    elif cifar.is_cifar_folder(folder):
        data = cifar.open_cifar_folder(folder, options)
    else:
        data = idx.open_idx_folder(folder, options)
    data.files = tuple(folder / file.name for file in KNOWN_SETS[name].kept)
    here = Path(name)
    if here.exists() and not here.samefile(folder):
        data.notes = (
            *data.notes,
            f"{name} is the fetched set in {folder}; {here.absolute()} is opened as ./{name}.",
        )
    return data


def _open_adult(path: Path, options: OpenOptions) -> ArrayDataset:
    from rightbatch.data.csv_files import CsvFile
    from rightbatch.data.tables import build_dataset

    options.refuse_unused("adult", usable=("missing", "categories", "on_bad_sample"))
    skip_ragged = options.on_bad_sample == "quarantine"
    file = CsvFile(path, header=False, skip_ragged=skip_ragged, names=_ADULT_COLUMNS)
    return build_dataset([file], options, source="adult", default_target="income")
