"""Which CUDA devices there are, asked of the driver: PyTorch would take seconds to import for that."""

from __future__ import annotations

import ctypes

from perception_batch.errors import ModelError, printable


def count_cuda() -> int:
    """CUDA devices that this process may use; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return max(0, count.value)


def choose_cuda(wanted: str) -> int | None:
    """Number of the CUDA device that `detect.device` means; None is the CPU.

    Raises:
        ModelError: there is no such device.
    """
    if wanted == "cpu":
        return None
    count = count_cuda()
    if wanted == "auto":
        return 0 if count else None
    index = int(wanted.partition(":")[2] or 0)
    if index >= count:
        have = ", ".join(["cpu", *(f"cuda:{i}" for i in range(count))])
        raise ModelError(f"detect.device {printable(wanted)} is not there; this machine has: {have}")
    return index
