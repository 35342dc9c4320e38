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


def cuda_name(index: int) -> str:
    """What a device calls itself, such as ``NVIDIA H100 80GB HBM3``; empty where it cannot be asked."""
    name = ctypes.create_string_buffer(256)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ""
    device = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), index):
        return ""
    return "" if driver.cuDeviceGetName(name, len(name), device) else name.value.decode("ascii", "replace")


def cuda_memory(index: int) -> tuple[int, int]:
    """Free and total bytes of a device; (0, 0) where it cannot be asked."""
    free, total = ctypes.c_size_t(0), ctypes.c_size_t(0)
    device, context = ctypes.c_int(0), ctypes.c_void_p()
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0, 0
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), index):
        return 0, 0
    # The context that every library of this process shares.
    if driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
        return 0, 0
    try:
        if driver.cuCtxPushCurrent_v2(context):
            return 0, 0
        asked = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)
    return (0, 0) if asked else (free.value, total.value)
