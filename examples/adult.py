"""Who earns more than 50,000 dollars? The Adult census: categories, missing values, a network.

    python examples/adult.py PATH_OR_URL_OF_adult.data

Of 32,561 people 8 columns are words and 6 are numbers; 2,399 rows lack a value, written `?`. A
missing word becomes a word of its own, words become columns of zeros and ones, and every column is
standardised by the train part. A network of 64 hidden units is right for 85.2 % of the test part
(mean of the seeds 1 to 5, which have 84.7 to 85.9 %); who always says "at most 50,000" is right
for 75.9 %. It takes some 10 seconds.
"""

from __future__ import annotations

import argparse

import numpy as np

import rightbatch as rb


def main() -> None:
    """Train, and say how good that is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="path or URL of adult.data")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()

    data = rb.open(arguments.data, header=False, target=-1, missing="fill", categories="one-hot")
    for note in data.notes:
        print(note)
    # A few people are in the file twice; both copies go to one side.
    parts = rb.split(
        data, val=0.1, test=0.1, stratify=True, seed=arguments.seed, on_duplicates="together"
    ).transform(rb.standardize())
    result = rb.fit(
        "mlp:64",
        parts,
        batch_size=256,
        epochs=arguments.epochs,
        optimizer="adam",
        learning_rate=0.001,
        l2=3e-3,
        seed=arguments.seed,
    )
    scores = rb.evaluate(result, parts.test)
    _, target = next(iter(rb.Batches(parts.test, "full", shuffle=False)))
    majority = np.bincount(target).max() / len(target)
    print(f"test: {scores['accuracy']:.1%} right, loss {scores['loss']:.3f}")
    print(f"always the more common answer: {majority:.1%} right")


if __name__ == "__main__":
    main()
