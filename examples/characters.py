"""A character model of a text, beside what counting characters, and pairs of them, would say.

    python examples/characters.py $RIGHTBATCH_DATA/tinyshakespeare/input.txt

The text is cut into windows of 64 characters. The last tenth of it is the test part and the tenth
before that the validation part: the model never sees text from beyond them.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

import rightbatch as rb
from character_model import CharacterModel
from rightbatch.loading.parts import Part


def codes_of(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """All characters of a part, and what follows each of them."""
    inputs, targets = next(iter(rb.Batches(part, "full", shuffle=False)))
    return inputs.reshape(-1), targets.reshape(-1)


def losses_of_counting(train: Part, test: Part, size: int) -> dict[str, float]:
    """The test loss, in nats a character, of the shares of characters and pairs in train."""
    before, after = codes_of(train)
    known, wanted = codes_of(test)
    # One more of each, so that what train lacks is not impossible.
    single = np.bincount(after, minlength=size) + 1.0
    pairs = (
        np.bincount(before * np.int64(size) + after, minlength=size**2).reshape(size, size) + 1.0
    )
    return {
        "single characters": -float(np.log(single / single.sum())[wanted].mean()),
        "pairs": -float(np.log(pairs / pairs.sum(1, keepdims=True))[known, wanted].mean()),
    }


def continued(model: CharacterModel, text: str, characters: tuple[str, ...], length: int) -> str:
    """The text and what the model draws after it, a character at a time."""
    generator = torch.Generator().manual_seed(0)
    codes = [characters.index(character) for character in text]
    model.eval()
    with torch.inference_mode():
        for _ in range(length):
            scores = model(torch.tensor([codes[-64:]]))[0, -1]
            drawn = torch.multinomial(torch.softmax(scores, 0), 1, generator=generator)
            codes.append(int(drawn))
    return "".join(characters[code] for code in codes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", help="a file of text, or a glob of such files")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--out", help="the folder of the run, which --resume goes on with")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()

    data = rb.open(options.text, sequence_length=64)
    characters = data.column("tokens").categories or ()
    parts = rb.split(data, val=0.1, test=0.1, contiguous=True)
    print(f"{data.notes[0]} {parts}")

    torch.manual_seed(0)
    result = rb.fit(
        CharacterModel(len(characters)),
        parts,
        batch_size=options.batch_size,
        epochs=options.epochs,
        optimizer="adam",
        learning_rate=0.003,
        out=options.out,
        resume=options.resume,
    )
    for row in result.history:
        print(f"epoch {row['epoch']}: train {row['train_loss']:.3f}, val {row['val_loss']:.3f}")

    scores = rb.evaluate(result, parts.test)
    for name, loss in losses_of_counting(parts.train, parts.test, len(characters)).items():
        print(f"test loss of {name}: {loss:.3f} nats a character")
    bits = scores["loss"] / np.log(2)
    print(
        f"test loss of the model: {scores['loss']:.3f} nats ({bits:.2f} bits) a character; "
        f"{scores['accuracy']:.1%} of the next characters are told"
    )
    print(continued(result.model, "\n", characters, 200))


if __name__ == "__main__":
    main()
