"""`fit`: train a model by mini-batches."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from rightbatch.errors import OptionError, ResumeError
from rightbatch.loading.parts import Parts
from rightbatch.loading.tensors import find_device
from rightbatch.loading.token_batches import (
    parts_with_padding,
)
from rightbatch.loading.weights import parts_without_weights
from rightbatch.training.building import build
from rightbatch.training.checkpoint import model_tensors, save_checkpoint
from rightbatch.training.options import FitOptions
from rightbatch.training.progress import StepObserver, Watcher
from rightbatch.training.provenance import describe_transforms
from rightbatch.training.rank_agreement import (
    agree_on,
    is_restarted,
    leaving_on_error,
    marked_as_own,
    synchronised,
)
from rightbatch.training.ranks import Ranks
from rightbatch.training.remote_objects import describe_objects, refuse_changed_objects
from rightbatch.training.result import FitResult
from rightbatch.training.run_folder import RunFolder, describe_columns
from rightbatch.training.settings import device_here, device_of, run_settings, threads_for
from rightbatch.training.step_choice import capture_of
from rightbatch.training.trainer import Trainer

# What a resumed run may change: how far it goes and what does not touch the result.
_MAY_CHANGE = {
    *("epochs", "steps", "checkpoint_seconds", "threads", "target_loss"),
    *("memory", "max_bad", "device_memory", "capture"),
}
_SINCE = {"compile": FitOptions.compile, "precision": FitOptions.precision}


def fit(
    model: str | nn.Module,
    parts: Parts,
    *,
    batch_size: int | str = 32,
    batch_tokens: int | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    learning_rate: float = 0.01,
    optimizer: str = "sgd",
    momentum: float = 0.0,
    l1: float = 0.0,
    l2: float = 0.0,
    loss: str | Callable[[Tensor, Tensor], Tensor] | None = None,
    activation: str = "relu",
    init: str = "default",
    seed: int = 0,
    shuffle: bool = True,
    window: int | None = None,
    block: int | None = None,
    memory: str | int | float | None = None,
    weights: ArrayLike | str | None = None,
    epoch_samples: int | None = None,
    on_bad_sample: str = "stop",
    max_bad: int | float | None = None,
    micro_batch_size: int | None = None,
    batch_statistics: str | None = None,
    evaluation_batch_size: int | None = None,
    early_stopping: int | None = None,
    target_loss: float | None = None,
    threads: int | None = None,
    device: str | torch.device | None = None,
    device_memory: str | int | float | None = None,
    precision: str = "float32",
    compile: bool = False,  # noqa: A002 - torch's word for it
    capture: bool | str = "auto",
    out: str | Path | None = None,
    resume: bool = False,
    allow_new_batch_size: bool = False,
    checkpoint_seconds: float = 30.0,
    config: Mapping[str, Any] | None = None,
    progress: Watcher | None = None,
    on_step: StepObserver | None = None,
) -> FitResult:
    """Train a model by mini-batch gradient descent: one knob, the batch size.

    `model` is a name (`linear`, `softmax`, `logistic`, `mlp:100`, `mlp:50,50`) or a
    `torch.nn.Module`, which is trained in place. `batch_size="full"` is batch gradient descent,
    1 is stochastic. `batch_tokens=4096` in its place is for samples that vary in length: batches
    hold as many of like lengths as fit in so many tokens, padded, in training and validation alike
    (see `Batches`); a module is given a dict of arrays and their `mask`. `activation` and `init`
    (`default`, `zeros`, `normal:STD`) are for named models. The loss follows from target and
    model, or is `cross_entropy`, `binary_cross_entropy`, `squared_error` or a function of
    (outputs, target) that gives a value a sample or their mean.

    `optimizer` is `sgd` (with `momentum`), `adam` or `adamw`. `l2` adds (l2/2)·|w|² and `l1`
    adds l1·|w|₁ to the mean loss, on weights and not on biases; books that add the penalty
    before dividing by the batch length mean l2/B. `micro_batch_size` works a batch through in
    pieces with the exact mean; where memory runs out, it is halved with a warning and the step
    taken again (docs/training.md). `evaluation_batch_size` is what validation takes at a time
    (1,024), on which memory and time alone depend. `epochs` (10 where neither is given) or
    `steps` ends the run; `early_stopping=n` ends it after n epochs without a lower validation
    loss and takes the weights of the best epoch, and `target_loss` ends it after the first epoch
    whose validation loss is no higher. `window` is the size of the shuffle window in samples,
    `block` that of the blocks that are permuted first; `memory="512MB"` chooses both for data that
    are larger than memory, and bounds what reading takes (see `Batches`). `weights` draw the
    training samples with replacement, `epoch_samples` of them an epoch (as many as there are, where
    it is not given): one number a training sample or a sample of the data, the name of a column,
    or "balanced" for classes that are equally likely; validation takes every sample once all the
    same. Parts of a mixture (`rb.mix`) are trained on in its proportions. `on_bad_sample` and
    `max_bad` say what becomes of samples that can not be read: with "quarantine" a batch is learned
    without them, they are listed in the result and in the run's bad_samples.json, and the run goes
    on without them when it is resumed.

    `out` is the run's folder; a checkpoint is written every `checkpoint_seconds`, at the end of
    an epoch (once a second at most) and on Ctrl-C, which then raises KeyboardInterrupt.
    `resume=True` goes on from it bit for bit on the CPU, from inside an epoch too;
    `allow_new_batch_size=True` lets the rest be cut at another batch size. `threads` sets
    torch's CPU threads for the time of the run; without it a small step takes one and a large
    one as many as torch has.

    `device` is where the model is brought and stays; without it, where it is. On a GPU the training
    samples live there where they fit in `device_memory` (see `Batches`), and the steps of full
    batches are replayed as one CUDA graph: `capture="auto"` does so where a look at the first steps
    shows that nothing speaks against it, and the result's `capture` says what did; True warns where
    it can not be done, False never does it. `precision="bfloat16"` takes matrix products and
    convolutions of training down to it (autocast; parameters, loss and validation stay float32),
    `compile=True` runs the model through `torch.compile` (docs/gpu.md).

    `config` is written into the run's config.json beside the options.
    `progress` is called with a `Progress` a few times a second, `on_step` after every step with
    its number (from 1), its loss and the model. The global random state of torch is left as it
    was.

    In a process group of torch (`torchrun`, `torch.distributed.init_process_group`) all ranks call
    `fit` alike and train one model: each holds its share of every batch, gradients and metrics are
    the exact mean over the samples, and the result is that of one process up to rounding. Rank 0
    writes `out`; a job that torchrun starts anew goes on from the checkpoint there. Layers and
    losses that look at several samples are refused unless `batch_statistics` says what they are to
    do: "rank" takes a rank's own share, "synchronised" the whole batch (BatchNorm on GPUs).
    docs/ranks.md has the rest.

    Raises OptionError for options that are not valid or contradict one another, ResumeError where
    the folder holds another run, NonFiniteLossError where the loss is NaN or infinite,
    MemoryLimitError where memory runs out and smaller micro-batches would change the mathematics
    or are of no use, RankError where ranks differ in data or options, or one of them has ended.

    >>> import rightbatch as rb
    >>> parts = rb.split(rb.open("breast_cancer"), val=0.2, seed=7).transform(rb.standardize())
    >>> result = rb.fit("logistic", parts, batch_size=32, epochs=5, learning_rate=0.1)
    >>> result.history[-1]["val_accuracy"] > 0.9
    True
    """
    options = FitOptions(
        batch_size=batch_size,
        batch_tokens=batch_tokens,
        epochs=epochs,
        steps=steps,
        learning_rate=learning_rate,
        optimizer=optimizer,
        momentum=momentum,
        l1=l1,
        l2=l2,
        loss=loss,
        activation=activation,
        init=init,
        seed=seed,
        shuffle=shuffle,
        window=window,
        block=block,
        memory=memory,
        weights=weights,
        epoch_samples=epoch_samples,
        on_bad_sample=on_bad_sample,
        max_bad=max_bad,
        micro_batch_size=micro_batch_size,
        batch_statistics=batch_statistics,
        evaluation_batch_size=evaluation_batch_size,
        early_stopping=early_stopping,
        target_loss=target_loss,
        threads=threads,
        checkpoint_seconds=checkpoint_seconds,
        capture=capture,
        compile=compile,
        precision=precision,
        device_memory=device_memory,
    )
    if not isinstance(parts, Parts):
        raise OptionError(
            f"fit trains on the parts of a split and was given {type(parts).__name__}: "
            "rb.fit(model, rb.split(data, val=0.1), …)"
        )
    if early_stopping is not None and parts.val is None:
        raise OptionError(
            "early_stopping watches the validation loss, and there is no validation part: "
            "split with val=0.1"
        )
    if target_loss is not None and parts.val is None:
        raise OptionError(
            f"target_loss={target_loss:g} is a validation loss, and there is no validation part: "
            "split with val=0.1"
        )
    options.samples_in_epoch(parts.train)  # refuses an epoch that can not be of that length
    parts = parts_without_weights(parts, options.weights)
    if resume and out is None:
        raise OptionError("resume=True needs the run's folder: out=…")
    began = time.perf_counter()
    ranks = Ranks.here()
    if options.batch_tokens is not None:
        parts = parts_with_padding(parts)
    with run_settings(options.seed):
        network, task = build(model, parts.train, options)
        size = options.batch_tokens or options.batch_size
        torch.set_num_threads(options.threads or threads_for(network, size, parts))
        torch_device = device_of(network) if device is None else find_device(device_here(device))
        if torch_device is not None:
            network = network.to(torch_device)
        if options.batch_statistics == "synchronised" and not ranks.is_alone:
            network = synchronised(network)
        folder = None if out is None else RunFolder(Path(out))
        if folder is not None and not resume:
            resume = ranks.on_first(lambda: is_restarted(folder))
        if folder is not None and resume and memory is None:
            # The order that memory called for is the run's; so is the budget, unless given anew.
            stored = ranks.on_first(lambda: folder.read_config().get("options", {}).get("memory"))
            options = replace(options, memory=stored)
        asked = {
            "model": model if isinstance(model, str) else type(model).__name__,
            "options": options.to_json(),
            "sizes": parts.sizes,
            "split": parts.settings,
            "data": {
                "name": parts.data.name,
                "fingerprint": parts.fingerprint,
                **describe_objects(parts.data),
            },
            "duplicate_samples": parts.duplicate_samples,
            "mixture": None if parts.train.mixture is None else parts.train.mixture.to_json(),
            "columns": describe_columns(parts.data),
            "target": parts.data.target,
            "loss": task.loss.name,
            "classes": None if task.classes is None else task.classes.tolist(),
            **({"is_per_token": True} if task.is_per_token else {}),
            **(config or {}),
        }
        transforms = describe_transforms(parts.train, parts.held_out_transforms)
        agree_on(ranks, asked, transforms, model=network, loss=options.loss)
        trainer = Trainer(
            network,
            parts,
            task,
            options,
            folder=folder,
            device=torch_device,
            watcher=progress,
            observer=on_step,
            ranks=ranks,
        )
        # With tokens, so many samples a batch holds at most.
        asked["options"]["batch_size"] = (
            options.batch_size if options.batch_tokens is None else trainer.batch_size
        )
        is_new = False
        if folder is not None and resume:
            ranks.on_first(lambda: _refuse_changes(folder, asked, transforms, allow_new_batch_size))
            trainer.restore(allow_new_batch_size=allow_new_batch_size)
            if not trainer.is_done:
                changes = {"options": asked["options"], **(config or {})}
                ranks.on_first(lambda: folder.note_changes(changes))
        elif folder is not None:
            ranks.on_first(lambda: folder.begin({**asked, **marked_as_own()}, transforms))
            is_new = True
        with leaving_on_error(ranks):
            if is_new:
                trainer.save()
            trainer.run()
        if folder is not None:
            tensors = model_tensors(network, "model")
            ranks.on_first(lambda: save_checkpoint(folder.weights, tensors, {}))
    return FitResult(
        model=network,
        task=task,
        history=trainer.history,
        step_losses=trainer.step_losses.pairs,
        batch_size=trainer.batch_size,
        batch_tokens=options.batch_tokens,
        micro_batch_size=trainer.step.micro_batch_size,
        steps=trainer.standing.steps,
        seconds=time.perf_counter() - began,
        samples_per_second=trainer.trained_samples / max(trainer.training_seconds, 1e-9),
        leaked_samples=trainer.read_rows.leaked(parts),
        bad_samples=trainer.bad_samples,
        best_epoch=trainer.standing.best_epoch or len(trainer.history),
        stopped_early=trainer.is_stopped_early,
        run=None if folder is None else folder.path,
        inputs=parts.data.inputs,
        target=None if parts.data.target is None else parts.data.column(parts.data.target),
        transforms=parts.held_out_transforms,
        capture=capture_of(trainer.step, options),
        residency=trainer.train.residency,
    )


def _refuse_changes(
    folder: RunFolder,
    asked: dict[str, Any],
    transforms: list[dict[str, Any]],
    allow_new_batch_size: bool,
) -> None:
    """ResumeError that lists what differs from the run's own configuration."""
    before = folder.read_config()
    # What an earlier version did not ask for was as it is by default.
    stored_options = {**_SINCE, **before["options"]}
    may_change = _MAY_CHANGE | ({"batch_size"} if allow_new_batch_size else set())
    different = [
        f"{name} was {stored_options.get(name)!r} and is {value!r}"
        for name, value in asked["options"].items()
        if name not in may_change and stored_options.get(name) != value
    ]
    different += [
        f"{name} was {before.get(name)!r} and is {asked[name]!r}"
        for name in ("model", "sizes", "classes")
        if before.get(name) != asked[name]
    ]
    refuse_changed_objects(folder, before["data"], asked["data"])
    stored = folder.read_transforms()
    # Transforms learn from the data; of other data the checkpoint itself will complain.
    is_same_data = before["data"]["fingerprint"] == asked["data"]["fingerprint"]
    if is_same_data and stored != json.loads(json.dumps(transforms)):
        was, now = (
            ", ".join(str(transform["kind"]) for transform in kinds) or "none"
            for kinds in (stored, transforms)
        )
        different.append(f"transforms were {was} and are {now}, or have learned other values")
    if different:
        raise ResumeError(
            f"{folder.path} can not be resumed with other settings: {'; '.join(different)}. Give "
            "the same ones, or start another run in another folder"
        )
