"""The one part that is compiled. Where it can not be, rightbatch is installed without it."""

from __future__ import annotations

import sysconfig

from setuptools import Extension, setup

# What one wheel for all versions of Python needs; Python without its lock has none.
HAS_STABLE_INTERFACE = not sysconfig.get_config_var("Py_GIL_DISABLED")

PIECES = Extension(
    "rightbatch.loading._jpeg_pieces",
    ["src/rightbatch/loading/_jpeg_pieces.c"],
    libraries=["jpeg"],
    optional=True,
    py_limited_api=True,
)

setup(
    ext_modules=[PIECES] if HAS_STABLE_INTERFACE else [],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if HAS_STABLE_INTERFACE else {},
)
