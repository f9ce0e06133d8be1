"""Batches in memory: shuffled float32 batches of 128 with labels out of 60,000 x 784 bytes."""

from __future__ import annotations

from functools import partial

import loaders
import mnist
from loaders import BatchWork, PassWork
from measure import Contender
from report import Benchmark, Goal, command

_REFERENCE = "numpy by hand"
_OURS = "rightbatch"
_LIMIT = "copy of the same float32 bytes"
_TORCH = ("torch",)
_TENSORFLOW = ("tensorflow",)
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "ERROR"}

_PEERS = (
    Contender(
        name="torch DataLoader, BatchSampler as sampler",
        work=partial(BatchWork, loaders.torch_batch_sampler),
        modules=_TORCH,
    ),
    Contender(
        name="torch DataLoader over TensorDataset, 0 workers",
        work=partial(BatchWork, partial(loaders.torch_tensor_dataset, 0)),
        modules=_TORCH,
    ),
    Contender(
        name="torch DataLoader over TensorDataset, 2 workers",
        work=partial(BatchWork, partial(loaders.torch_tensor_dataset, 2)),
        modules=_TORCH,
    ),
    Contender(
        name="tf.data shuffle, batch, map",
        work=partial(BatchWork, partial(loaders.tf_data, maps_batches=True)),
        modules=_TENSORFLOW,
        environment=_QUIET,
    ),
    Contender(
        name="tf.data shuffle, map, batch",
        work=partial(BatchWork, partial(loaders.tf_data, maps_batches=False)),
        modules=_TENSORFLOW,
        environment=_QUIET,
    ),
    Contender(
        name="HF datasets shuffle, iter",
        work=partial(BatchWork, loaders.hugging_face),
        modules=("datasets",),
    ),
    Contender(
        name="grain MapDataset",
        work=partial(BatchWork, loaders.grain_map_dataset),
        modules=("grain",),
        environment=_QUIET,
    ),
)

BENCHMARK = Benchmark(
    title=f"60,000 × 784 uint8 → shuffled float32/255 batches of {mnist.BATCH_SIZE}, one epoch",
    samples=mnist.SAMPLES,
    reference=_REFERENCE,
    limit=_LIMIT,
    contenders=(
        Contender(name=_REFERENCE, work=partial(BatchWork, loaders.numpy_by_hand)),
        Contender(name=_OURS, work=partial(BatchWork, loaders.rightbatch)),
        *(
            Contender(
                name=f"rightbatch, threads={threads}",
                work=partial(BatchWork, partial(loaders.rightbatch, threads=threads)),
            )
            for threads in (0, 1)
        ),
        *_PEERS,
        Contender(name=_LIMIT, work=partial(PassWork, loaders.copy_alone), is_limit=True),
        Contender(
            name="gathering the uint8 rows alone, 1 thread",
            work=partial(PassWork, loaders.gather_alone),
            is_limit=True,
        ),
    ),
    goals=(
        Goal(
            says="rightbatch against the hand-written NumPy loop",
            ours=_OURS,
            theirs=(_REFERENCE,),
            factor=1.5,
        ),
        Goal(
            says="rightbatch against the best peer loader",
            ours=_OURS,
            theirs=tuple(peer.name for peer in _PEERS),
            factor=4.0,
        ),
    ),
    notes=(mnist.describe(),),
)

if __name__ == "__main__":
    command(BENCHMARK, repeats=7)()
