"""Which examples can not run here: those of libraries that are not installed."""

from __future__ import annotations

import importlib.util

_NEEDED = {
    "docs/integrations.md": ("lightning", "transformers", "keras", "jax", "datasets"),
    "src/rightbatch/data/hugging_face.py": ("datasets",),
    "src/rightbatch/integrations/jax.py": ("jax",),
    # Its classes are Keras's own, so that importing it imports Keras.
    "src/rightbatch/integrations/keras.py": ("keras", "jax"),
}

collect_ignore = [
    path
    for path, libraries in _NEEDED.items()
    if not all(importlib.util.find_spec(library) for library in libraries)
]
