"""A small recurrent model of lines of varying length, for batches that are padded."""

from __future__ import annotations

from torch import Tensor, nn


class LineModel(nn.Module):
    """A dict with ids (B, T) in, scores (B, T, `vocabulary_size`) out, each of what came before.

    What stands behind the end of a line is not looked at: a recurrent model reads from the front,
    and the loss leaves out the places whose target is -100. One that looks both ways, such as
    attention, takes `inputs["mask"]` too.
    """

    def __init__(self, vocabulary_size: int, column: str = "line", width: int = 128) -> None:
        super().__init__()
        self.column = column
        self.embed = nn.Embedding(vocabulary_size, width, padding_idx=0)
        self.recur = nn.GRU(width, width, batch_first=True)
        self.score = nn.Linear(width, vocabulary_size)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """The scores of what follows each id."""
        hidden, _ = self.recur(self.embed(inputs[self.column]))
        return self.score(hidden)


def of_bytes() -> LineModel:
    """For lines as bytes: --model line_model.py:of_bytes."""
    return LineModel(256)
