"""Which examples can not run here: those of libraries that are asked for by `make integrations`."""

from __future__ import annotations

import os

# Importing Keras or Lightning takes seconds, and warnings of theirs are errors here.
_IN_THE_GROUP = [
    "docs/integrations.md",
    "src/rightbatch/data/hugging_face.py",
    "src/rightbatch/integrations/jax.py",
    "src/rightbatch/integrations/keras.py",
    "src/rightbatch/integrations/lightning.py",
]

collect_ignore = [] if os.environ.get("RIGHTBATCH_INTEGRATIONS") else _IN_THE_GROUP
