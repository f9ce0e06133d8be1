"""A run of training as a checkpoint: what it holds, and how a trainer goes back to it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from rightbatch.errors import ResumeError
from rightbatch.loading.quarantine import refuse_too_many_of_all
from rightbatch.training import checkpoint
from rightbatch.training.settings import device_of
from rightbatch.training.sharded import whole
from rightbatch.training.standing import Standing

if TYPE_CHECKING:
    from rightbatch.training.trainer import Trainer


def save_run(trainer: Trainer) -> None:
    """Write the checkpoint of the folder, and the list of bad samples where there are any.

    All ranks take part, and rank 0 writes.
    """
    join_bad_samples(trainer)
    join_marks(trainer)
    steps, losses = trainer.step_losses.arrays()
    tensors = {
        **checkpoint.model_tensors(trainer.model, "model"),
        **{f"best.{name}": tensor for name, tensor in trainer.best_weights.items()},
        **{
            name: whole(tensor)
            for name, tensor in checkpoint.optimizer_tensors(trainer.optimizer).items()
        },
        "random_state": torch.get_rng_state(),
        **_gpu_random_state(trainer),
        "read_rows": torch.from_numpy(trainer.read_rows.packed()),
        "step_numbers": torch.from_numpy(steps),
        "step_losses": torch.from_numpy(losses),
    }
    folder = trainer.folder
    if folder is None:
        return
    state = {
        "cursor": trainer.train.state_dict(),
        "data": trainer.parts.fingerprint,
        "standing": asdict(trainer.standing),
        "history": trainer.history,
        "stride": trainer.step_losses.stride,
        "memory": _room(trainer),
    }
    checkpoint.save_checkpoint(folder.checkpoint, tensors, state)
    if trainer.bad_samples:
        listed = [asdict(sample) for sample in trainer.bad_samples]
        folder.write_json(folder.bad_samples, listed)


def join_bad_samples(trainer: Trainer) -> None:
    """Leave out on every rank what any of them could not read.

    Raises BadSampleError on all of them where that is more than may be left out.
    """
    quarantine = trainer.quarantine
    if quarantine is None or trainer.ranks.is_alone:
        return
    for listed in trainer.ranks.gather_json(quarantine.to_json()):
        quarantine.restore(listed)
    refuse_too_many_of_all(quarantine)


def join_marks(trainer: Trainer) -> None:
    """Mark on every rank the rows that any of them has read."""
    if not trainer.ranks.is_alone:
        trainer.read_rows.restore(trainer.ranks.union(trainer.read_rows.packed()))


def restore_run(trainer: Trainer, *, allow_new_batch_size: bool = False) -> None:
    """Bring a new trainer back to the checkpoint of its folder.

    Raises ResumeError where it belongs to other data, another plan or another model.
    """
    folder = trainer.run_folder
    assert folder is not None  # resuming without a folder is refused by fit
    content: list[bytes] = []

    def read() -> None:
        content.append(checkpoint.read_checkpoint(folder.checkpoint))

    # Rank 0 reads for all: the folder may be on its machine alone.
    trainer.ranks.on_first(read)
    found = trainer.ranks.broadcast(content[0] if content else None)
    tensors, state = checkpoint.parse_checkpoint(folder.checkpoint, found)
    if state["data"] != trainer.parts.fingerprint:
        raise ResumeError(
            f"{folder.path} was trained on other data or another split (fingerprint "
            f"{state['data']}, here {trainer.parts.fingerprint}): open and split the same way, "
            "with the same seed"
        )
    before = state["cursor"]["batch_size"]
    trainer.train.load_state_dict(state["cursor"], allow_new_batch_size=allow_new_batch_size)
    checkpoint.restore_model(trainer.model, tensors, "model")
    checkpoint.restore_optimizer(trainer.optimizer, tensors)
    torch.set_rng_state(tensors["random_state"])
    if _gpu_random_state(trainer) and "gpu_random_state" in tensors:
        torch.cuda.set_rng_state(tensors["gpu_random_state"], device_of(trainer.model) or "cuda")
    trainer.standing = Standing.from_json(state["standing"])
    _go_on_in(trainer, state.get("memory", {}))
    trainer.history = state["history"]
    trainer.step_losses.restore(
        state["stride"], tensors["step_numbers"].numpy(), tensors["step_losses"].numpy()
    )
    trainer.read_rows.restore(tensors["read_rows"].numpy())
    trainer.best_weights = {
        name.removeprefix("best."): tensor
        for name, tensor in tensors.items()
        if name.startswith("best.")
    }
    if trainer.is_done:
        # No step will be taken at the size that was asked for now.
        trainer.batch_size = before


def _gpu_random_state(trainer: Trainer) -> dict[str, torch.Tensor]:
    """The random state of the GPU that the model lies on, such as dropout there draws from."""
    device = device_of(trainer.model)
    if device is None or device.type != "cuda":
        return {}
    return {"gpu_random_state": torch.cuda.get_rng_state(device)}


def _room(trainer: Trainer) -> dict[str, int | None]:
    """The sizes that memory has had room for: exact results depend on them by rounding."""
    return {
        "micro_batch_size": trainer.step.micro_batch_size,
        # A rank's share may be smaller than what memory has room for.
        "evaluation_batch_size": None
        if trainer.validation is None or not trainer.ranks.is_alone
        else trainer.validation.size,
    }


def _go_on_in(trainer: Trainer, room: dict[str, int | None]) -> None:
    """Go on in the sizes of `_room`; earlier versions have kept none."""
    trainer.step.micro_batch_size = room.get("micro_batch_size", trainer.step.micro_batch_size)
    size = room.get("evaluation_batch_size")
    if trainer.validation is not None and size is not None and size < trainer.validation.size:
        trainer.validation.shrink(size)
