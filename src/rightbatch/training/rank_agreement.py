"""What ranks settle before the first step: that they are to train the same, and how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from rightbatch.errors import OptionError, RightbatchError
from rightbatch.launch import restart_count
from rightbatch.training.likeness import likeness
from rightbatch.training.provenance import describe_environment
from rightbatch.training.ranks import Ranks
from rightbatch.training.run_folder import RunFolder
from rightbatch.training.torchrun import job_mark

# What a rank may have for itself, since the result does not depend on it.
_OWN = {"threads", "checkpoint_seconds"}


def agree_on(
    ranks: Ranks,
    asked: Mapping[str, Any],
    transforms: list[dict[str, Any]],
    *,
    model: Any = None,
    loss: Any = None,
) -> None:
    """Raise RankError, naming what differs, unless all ranks train the same model on the same data.

    Compared are options, data and split by their fingerprints, transforms with what they have
    learned, the versions of the code, and what `model` and `loss` are made of (`likeness`); weights
    are not, since all take those of rank 0. `asked` is the configuration of a run.
    """
    if ranks.is_alone:
        return
    described = {name: value for name, value in asked.items() if name != "options"}
    described["data"] = asked["data"]["fingerprint"]
    described.update({f"split {name}": value for name, value in described.pop("split").items()})
    for name, value in asked["options"].items():
        if name not in _OWN:
            described[name] = value
    described["transforms"] = transforms
    for library, version in describe_environment()["versions"].items():
        described[f"the version of {library}"] = version
    described.pop("command_line", None)
    described.pop("command", None)
    described["what the model is made of"] = likeness(model)
    described["what the loss is made of"] = likeness(loss, with_values=True)
    ranks.agree(**described)


@contextmanager
def leaving_on_error(ranks: Ranks) -> Iterator[None]:
    """Leave the group where this rank alone fails: a program that goes on would pair up wrongly."""
    try:
        yield
    except Exception as error:
        if not (isinstance(error, RightbatchError) and error.is_of_all_ranks):
            ranks.abandon()
        raise


def marked_as_own() -> dict[str, str]:
    """What a run's configuration keeps of the job of torchrun that begins it."""
    mark = job_mark()
    return {} if mark is None else {"job": mark}


def is_own(folder: RunFolder) -> bool:
    """Whether this job of torchrun has begun the run in the folder, before it was started anew."""
    if restart_count() == 0 or not folder.config.exists():
        return False
    return bool(folder.read_config().get("job") == job_mark())


def is_restarted(folder: RunFolder) -> bool:
    """Whether torchrun has started the ranks anew, and the folder's run is to be gone on with.

    One that was killed before its first checkpoint begins anew. A run of another job is left alone.
    """
    if not is_own(folder):
        return False
    if folder.checkpoint.is_file():
        return True
    folder.config.unlink(missing_ok=True)
    return False


def synchronised(network: nn.Module) -> nn.Module:
    """The module with its BatchNorm layers normalising over the batches of all ranks.

    Raises OptionError on the CPU, for which torch has no such layer.
    """
    first = next(network.parameters(), None)
    if first is None or first.device.type != "cuda":
        raise OptionError(
            "batch_statistics='synchronised' is torch's SyncBatchNorm, which works on GPUs alone: "
            "move the model to one (device='cuda'), take batch_statistics='rank', or a layer such "
            "as GroupNorm"
        )
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]  # torch leaves it so
    return converted
