"""Which errors say that memory ran out, of a machine or of a GPU, and which do not."""

from __future__ import annotations

import pytest
import torch

from rightbatch.errors import MemoryLimitError, is_out_of_memory


class AcceleratorError(RuntimeError):
    """As torch names what the driver of a GPU says, where this release has no such class."""


ACCELERATOR = getattr(torch, "AcceleratorError", AcceleratorError)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryLimitError("not even one"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 400000000000 bytes."
        ),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("HIP error: out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
        AcceleratorError("CUDA error: out of memory"),
    ],
)
def test_it_is(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x3 and 4x3)"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: operation not permitted when stream is capturing"),
        RuntimeError("the shop ran out of memory cards"),
        ValueError("CUDA error: out of memory"),
        KeyError("x"),
    ],
)
def test_it_is_not(error: BaseException) -> None:
    assert not is_out_of_memory(error)


def test_torch_names_the_driver_errors_as_a_runtime_error() -> None:
    assert issubclass(ACCELERATOR, RuntimeError)
