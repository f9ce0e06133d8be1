"""How many threads a loader takes."""

from __future__ import annotations

import os

from rightbatch.loading.pipeline import Pipeline

# One thread and the consumer, which helps when it would have to wait, fill two cores; on a larger
# machine two threads. More take cores from the training itself, and the interpreter's lock goes
# from hand to hand.
_MOST_THREADS = 2
# Decoding takes the time of many batches: it may have all cores but one, which is the consumer's
# own. With more than eight the interpreter's lock, held for a twentieth of the work, is in the way.
_MOST_DECODING_THREADS = 8


def default_threads(pipeline: Pipeline) -> int:
    """How many threads load samples where nobody said."""
    most = _MOST_DECODING_THREADS if pipeline.decoding_tracks else _MOST_THREADS
    return max(1, min(most, (os.cpu_count() or 1) - 1))
