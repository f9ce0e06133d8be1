"""Copies beside the computation: what can be seen of them without a GPU."""

from __future__ import annotations

import numpy as np
import torch

import rightbatch as rb
from rightbatch.loading.device_copies import DeviceCopies, current_stream, on_stream, to_device

CPU = torch.device("cpu")


def test_a_device_without_streams_gets_everything_at_once() -> None:
    copies = DeviceCopies(CPU)
    values = torch.arange(6)
    with copies.context():
        slab = copies.end([(3, copies.move(values)[:3]), (6, (values[3:], {"x": values}))])
    assert slab.event is None
    copies.hand_over(slab)
    assert [stop for stop, _ in slab] == [3, 6]
    assert current_stream(CPU) is None
    with on_stream(None):
        assert to_device(values, CPU) is values


def test_a_copied_slab_holds_the_batches_of_the_host() -> None:
    inputs = np.random.default_rng(0).normal(size=(50, 3))
    fields = {"a": inputs.astype(np.float32), "b": np.arange(50)[:, None], "y": np.arange(50) % 2}

    def doubled(inputs):
        return {name: values * 2 for name, values in inputs.items()}

    for transforms in ((), (doubled,)):
        parts = rb.split(rb.open(fields, target="y"), seed=1)
        part = parts.transform(*transforms).train if transforms else parts.train
        for remainder in ("keep", "pad"):
            options = {"seed": 3, "with_rows": True, "remainder": remainder, "threads": 1}
            host = rb.Batches(part, 8, output="torch", **options)
            device = rb.Batches(part, 8, device="cpu", **options)
            for one, two in zip(host, device, strict=True):
                assert one[0].keys() == two[0].keys()
                assert all(torch.equal(one[0][name], two[0][name]) for name in one[0])
                assert all(torch.equal(a, b) for a, b in zip(one[1:], two[1:], strict=True))
