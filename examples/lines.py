"""A model of the lines of a text, one line a sample, in batches of up to so many tokens.

    python examples/lines.py $RIGHTBATCH_DATA/tinyshakespeare/input.txt

The model is given a line and tells each next character, the end of the line included.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

import rightbatch as rb
from line_model import LineModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, help="a file of text")
    parser.add_argument("--lines", type=int, help="how many of them; by default all")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--pack", type=Path, help="write the lines as a pack, and train nothing")
    parser.add_argument("--out", help="the folder of the run, which --resume goes on with")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()

    # A line that stands in the text twice would be in two parts of the split.
    unique = dict.fromkeys(line for line in options.text.read_text().splitlines() if line)
    lines = [f"{line}\n" for line in list(unique)[: options.lines]]
    data = rb.open(
        {
            "line": rb.Ragged.from_list([line[:-1] for line in lines]),
            "next": rb.Ragged.from_list([line[1:] for line in lines]),
        },
        target="next",
        name="lines",
    )
    if options.pack is not None:
        print(rb.pack(data, options.pack))
        return
    alphabet = "".join(sorted(set("".join(lines))))
    ids = rb.tokenize("characters", alphabet=alphabet)
    next_ids = rb.tokenize("characters", alphabet=alphabet, column="next")
    parts = rb.split(data, val=0.1, test=0.1).transform(ids, next_ids)
    print(rb.Batches(parts.train, batch_tokens=options.batch_tokens))

    torch.manual_seed(0)
    result = rb.fit(
        LineModel(ids.vocabulary_size or 0),
        parts,
        batch_tokens=options.batch_tokens,
        epochs=options.epochs,
        optimizer="adam",
        learning_rate=0.003,
        out=options.out,
        resume=options.resume,
    )
    for row in result.history:
        print(f"epoch {row['epoch']}: train {row['train_loss']:.3f}, val {row['val_loss']:.3f}")
    scores = rb.evaluate(result, parts.test, batch_tokens=options.batch_tokens)
    bits = scores["loss"] / np.log(2)
    print(
        f"test loss: {scores['loss']:.3f} nats ({bits:.2f} bits) a character; "
        f"{scores['accuracy']:.1%} of the next characters are told"
    )


if __name__ == "__main__":
    main()
