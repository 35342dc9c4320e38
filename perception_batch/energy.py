"""Joules that a machine used, where it counts them: Intel's RAPL for processors and memory, NVML for NVIDIA's devices.

Both count all that runs on the machine, not one process.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
"""Linux's power capping framework (kernel documentation, power/powercap)."""
_LIBRARY = "libnvidia-ml.so.1"


@dataclass(frozen=True, slots=True)
class Used:
    """Energy of a stretch of time."""

    cpu_j: float | None
    """Of the processors and their memory; None where it cannot be read."""
    gpu_j: float | None
    """Of NVIDIA's devices, all of them; None where it cannot be read."""
    absent: str
    """Why a figure is None; empty where both are known."""


@dataclass(slots=True)
class EnergyMeter:
    """Reads the counters at `start` and again at `used`."""

    powercap: Path = POWERCAP
    """Where the counters of RAPL are."""
    library: str = _LIBRARY
    """NVML's."""
    _zones: dict[Path, tuple[int, int]] = field(default_factory=dict)
    _device_mj: int | None = None
    _why: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Begin to count."""
        self._why = []
        self._zones = self._read_zones()
        self._device_mj = device_millijoules(self.library)
        if self._device_mj is None:
            self._why.append("no NVIDIA device that counts its energy (NVML)")

    def used(self) -> Used:
        """Since `start`. A counter that began again at 0 in between is seen; twice is not (half an hour at 150 W)."""
        now = self._read_zones() if self._zones else {}
        cpu_j = None
        if self._zones and now.keys() == self._zones.keys():
            cpu_j = 0.0
            for zone, (before, span) in self._zones.items():
                step = now[zone][0] - before
                cpu_j += (step if step >= 0 else step + span) / 1e6
        gpu_j = None
        after_mj = device_millijoules(self.library) if self._device_mj is not None else None
        if self._device_mj is not None and after_mj is not None:
            gpu_j = (after_mj - self._device_mj) / 1e3
        return Used(cpu_j, gpu_j, "; ".join(dict.fromkeys(self._why)))

    def _read_zones(self) -> dict[Path, tuple[int, int]]:
        """By zone: microjoules so far, and where the counter begins again. Packages, and memory, which is not in them."""
        found: dict[Path, tuple[int, int]] = {}
        try:
            zones = sorted(self.powercap.glob("intel-rapl:*"))
        except OSError:
            zones = []
        for zone in zones:
            try:
                name = (zone / "name").read_text(encoding="ascii").strip()
                if not name.startswith("package") and name != "dram":
                    continue
                values = [
                    int((zone / file).read_text(encoding="ascii"))
                    for file in ("energy_uj", "max_energy_range_uj")
                ]
            except PermissionError:
                self._why.append("the processor's counters can be read by root only (RAPL, energy_uj)")
                return {}
            except (OSError, ValueError):
                continue
            found[zone] = (values[0], values[1])
        if not found:
            self._why.append("the processor counts no energy here (RAPL; virtual machines hide it)")
        return found


def device_millijoules(library: str = _LIBRARY) -> int | None:
    """What NVIDIA's devices have used since their driver was loaded, all together; None where that is not to be had.

    Volta and later count it (NVML API reference, nvmlDeviceGetTotalEnergyConsumption).
    """
    try:
        nvml = ctypes.CDLL(library)
        if nvml.nvmlInit_v2() != 0:
            return None
    except (OSError, AttributeError):
        return None
    try:
        count = ctypes.c_uint(0)
        if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0 or not count.value:
            return None
        total = 0
        for index in range(count.value):
            device, used = ctypes.c_void_p(), ctypes.c_ulonglong(0)
            if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) != 0:
                return None
            if nvml.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(used)) != 0:
                return None
            total += used.value
        return total
    except AttributeError:
        return None
    finally:
        nvml.nvmlShutdown()
