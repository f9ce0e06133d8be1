"""The one part that is compiled. Where it can not be, rightbatch is installed without it."""

from __future__ import annotations

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "rightbatch.loading._jpeg_pieces",
            ["src/rightbatch/loading/_jpeg_pieces.c"],
            libraries=["jpeg"],
            optional=True,
            py_limited_api=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
