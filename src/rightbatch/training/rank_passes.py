"""The forward passes of `predict` that several ranks share, in the order of one process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from rightbatch.errors import MemoryLimitError, is_out_of_memory
from rightbatch.loading.parts import Part
from rightbatch.training.checkpoint import digest
from rightbatch.training.evaluate import Score
from rightbatch.training.prediction_files import Piece
from rightbatch.training.prediction_passes import Passes, finished_together
from rightbatch.training.provenance import describe_environment, describe_transforms
from rightbatch.training.ranks import Ranks
from rightbatch.training.result import FitResult
from rightbatch.training.sharded import is_sharded

Outputs = tuple[Tensor, ...]

_NEXT_STEP = "Start all ranks again; a file that was there before is as it was."


def together(ranks: Ranks, model: Any) -> AbstractContextManager[None]:
    """A context in which an error of one rank is raised on all.

    Not those of a model that is divided among them: inside of its passes the others can not be
    told, and learn of it when the process ends.
    """
    network = model.model if isinstance(model, FitResult) else model
    is_divided = isinstance(network, nn.Module) and is_sharded(network)
    return nullcontext() if is_divided else ranks.together(_NEXT_STEP)


def agree_to_predict(
    ranks: Ranks,
    network: nn.Module,
    part: Part,
    prepared: Part,
    options: dict[str, Any],
    *,
    aim: str = "predict together",
) -> None:
    """Raise RankError, naming what differs, unless all ranks predict the same by the same."""
    if ranks.is_alone:
        return
    described = {**options, "data": part.fingerprint}
    described["transforms"] = describe_transforms(prepared)
    if not is_sharded(network):
        described["the digest of the model's weights"] = _digest(network)
    for library, version in describe_environment()["versions"].items():
        described[f"the version of {library}"] = version
    ranks.agree(aim, **described)


def _digest(network: nn.Module) -> str:
    # One tensor after another: memory may have no room for all of a device's.
    digests = [
        digest({name: value.detach().cpu().contiguous()})
        for name, value in network.state_dict().items()
        if isinstance(value, Tensor)
    ]
    return hashlib.blake2b("".join(digests).encode(), digest_size=16).hexdigest()


@dataclass(kw_only=True)
class RankPasses(Passes):
    """Whole batches are dealt to the ranks: batch k of one process is the work of rank k % W.

    So each has the shape that it has in one process, and the same bits come out: products of
    matrices of other shapes round otherwise. Outputs are turned into results where the pieces are
    wanted, in the groups of one process: on every rank (`to_all`), or on rank 0 alone, and the
    others give no pieces. Of all ranks together, so many outputs are held as each of them turns
    into results at once.

    Where memory runs out on a rank, it works its own batches through in smaller ones; the others
    learn nothing of it. Of a model that is divided among the ranks (`fully_shard`) each pass is one
    of all of them: it is not halved, and a rank without a batch goes along with a single sample.
    """

    ranks: Ranks
    to_all: bool

    def __post_init__(self) -> None:
        self._dealt = self.batch_size

    @override
    def pieces(self, score: Score) -> Iterator[Piece]:
        together = finished_together(self._dealt)
        own = self._own_batches()
        while held := list(islice(own, together)):
            batches = self._in_order([outputs for outputs in held if outputs])
            for start in range(0, len(batches), together):
                try:
                    piece, scored, not_finite = self._finish(batches[start : start + together])
                except Exception as error:
                    self._refuse_outputs(error)
                    raise
                if scored is not None:
                    score.add(*scored)
                self.not_finite += not_finite
                yield piece

    def settle(self, score: Score) -> Score:
        """Have on every rank what rank 0 has counted; all have come to the end."""
        told = {
            "score": score.to_json(),
            "not_finite": self.not_finite,
            "labels": self.labels,
            "batch_size": self.batch_size,
        }
        ranks = self.ranks.gather_json(told)
        self.not_finite = ranks[0]["not_finite"]
        self.labels = ranks[0]["labels"]
        self.batch_size = min(of_rank["batch_size"] for of_rank in ranks)
        return Score(**ranks[0]["score"])

    def _in_order(self, held: list[Outputs]) -> list[Outputs]:
        """The batches of all ranks, which take turns."""
        self.shapes |= {tuple(outputs.shape[1:]) for outputs, *_ in held}
        self._refuse_shapes()
        own = [torch.cat(each) for each in zip(*held, strict=True)]
        turns = []
        for tensors in self.ranks.exchange(own, to_all=self.to_all):
            each = [torch.split(tensor.to(self.device), self._dealt) for tensor in tensors]
            turns.append(list(zip(*each, strict=True)))
        return [outputs for turn in zip_longest(*turns) for outputs in turn if outputs is not None]

    def _own_batches(self) -> Iterator[Outputs]:
        """Outputs of the rank's own batches, as many as any rank has; nothing for one it lacks."""
        ranks, is_divided = self.ranks, is_sharded(self.network)
        count = -(-len(self.part) // (self._dealt * ranks.world_size))
        done = 0
        try:
            for outputs in self.forward(
                self.part, self._dealt, rank=ranks.rank, world_size=ranks.world_size
            ):
                if is_divided and not outputs:
                    self._keep_up()
                yield outputs
                done += 1
        except Exception as error:
            if is_divided:
                self._refuse_outputs(error)
            self._refuse_halving(error)
        # Outside of the except clause, which keeps the tensors of the batch alive.
        if done < count:
            self._halve(self._dealt)
        for number in range(done, count):
            yield self._in_pieces(number)

    def _in_pieces(self, number: int) -> Outputs:
        """Outputs of one of the rank's own batches, for which memory has no room at once."""
        start = (number * self.ranks.world_size + self.ranks.rank) * self._dealt
        stop = min(start + self._dealt, len(self.part))
        if start >= stop:
            return ()
        part = replace(self.part, rows=self.part.rows.between(start, stop))
        while True:
            try:
                pieces = list(self.forward(part, min(self.batch_size, len(part)), threads=0))
                return tuple(torch.cat(each) for each in zip(*pieces, strict=True))
            except Exception as error:
                self._refuse_halving(error)
            self._halve(len(part))

    def _keep_up(self) -> None:
        one = replace(self.part, rows=self.part.rows.between(0, 1))
        for _ in self.forward(one, 1, threads=0):
            pass

    def _refuse_outputs(self, error: Exception) -> None:
        """Say what helps where memory ran out, and nothing can be halved."""
        if is_out_of_memory(error):
            raise MemoryLimitError(
                f"rank {self.ranks.rank} has no room in memory for batches of {self._dealt:,} "
                f"samples and the outputs of {self.ranks.world_size}: give a smaller batch_size, "
                "which does not change what is predicted"
            ) from error
