"""What ranks settle before the first step: that they are to train the same, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from rightbatch.errors import OptionError
from rightbatch.launch import restart_count
from rightbatch.training.provenance import describe_environment
from rightbatch.training.ranks import Ranks
from rightbatch.training.run_folder import RunFolder

# What a rank may have for itself, since the result does not depend on it.
_OWN = {"threads", "checkpoint_seconds"}


def agree_on(ranks: Ranks, asked: Mapping[str, Any], transforms: list[dict[str, Any]]) -> None:
    """Raise RankError, naming what differs, unless all ranks train the same model on the same data.

    Compared are options, data and split by their fingerprints, transforms with what they have
    learned, and the versions of the code. `asked` is the configuration of a run.
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
    ranks.agree(**described)


def is_restarted(folder: RunFolder) -> bool:
    """Whether torchrun has started the ranks anew, and the folder's run is to be gone on with.

    A run that was killed before its first checkpoint begins anew.
    """
    if restart_count() == 0:
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
