"""A small recurrent model of text: for each token, the scores of what may follow it."""

from __future__ import annotations

from torch import Tensor, nn


class CharacterModel(nn.Module):
    """Codes (B, T) in, scores (B, T, `vocabulary_size`) out, each of what came before alone."""

    def __init__(self, vocabulary_size: int, width: int = 128) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary_size, width)
        self.recur = nn.GRU(width, width, batch_first=True)
        self.score = nn.Linear(width, vocabulary_size)

    def forward(self, codes: Tensor) -> Tensor:
        """The scores of what follows each code."""
        hidden, _ = self.recur(self.embed(codes))
        return self.score(hidden)


def shakespeare() -> CharacterModel:
    """For tinyshakespeare, which has 65 characters: --model character_model.py:shakespeare."""
    return CharacterModel(65)
