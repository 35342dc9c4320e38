"""Counters of energy: those of the processor in files as the kernel shows them, those of a device in a library of our own."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from perception_batch.energy import EnergyMeter, device_millijoules

RANGE_UJ = 1_000_000


def zone(root: Path, number: str, name: str, used_uj: int) -> Path:
    folder = root / f"intel-rapl:{number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{used_uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    return folder


def test_packages_and_memory_count_and_cores_do_not_count_twice(tmp_path: Path) -> None:
    for number, name in (
        ("0", "package-0"),
        ("1", "package-1"),
        ("0:0", "core"),
        ("0:1", "dram"),
        ("2", "psys"),
    ):
        zone(tmp_path, number, name, 900_000)
    meter = EnergyMeter(tmp_path, "no-such-library.so")
    meter.start()
    zone(tmp_path, "0", "package-0", 950_000)
    zone(tmp_path, "1", "package-1", 100_000)  # began again at 0
    zone(tmp_path, "0:0", "core", 990_000)
    zone(tmp_path, "0:1", "dram", 900_001)
    used = meter.used()
    assert used.cpu_j == pytest.approx(0.05 + 0.2 + 0.000001)
    assert used.gpu_j is None and "NVIDIA" in used.absent


@pytest.mark.parametrize("damage", ["absent", "text", "gone"])
def test_what_cannot_be_read_is_absent_with_a_reason(tmp_path: Path, damage: str) -> None:
    if damage != "absent":
        folder = zone(tmp_path, "0", "package-0", 5)
        if damage == "text":
            (folder / "energy_uj").write_text("much\n")
    meter = EnergyMeter(tmp_path, "no-such-library.so")
    meter.start()
    if damage == "gone":
        (folder / "energy_uj").unlink()
    used = meter.used()
    assert used.cpu_j is None and "RAPL" in used.absent


def test_counters_for_root_only_are_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone(tmp_path, "0", "package-0", 5)
    read_text = Path.read_text

    def guarded(path: Path, *arguments: Any, **more: Any) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read_text(path, *arguments, **more)

    monkeypatch.setattr(Path, "read_text", guarded)
    meter = EnergyMeter(tmp_path, "no-such-library.so")
    meter.start()
    used = meter.used()
    assert used.cpu_j is None and "root" in used.absent


class Library:
    """NVML with two devices that have used 5 and 7 J, and 1 J more at every look."""

    looks = 0

    def nvmlInit_v2(self) -> int:  # NVML's names
        self.looks += 1
        return 0

    def nvmlShutdown(self) -> int:
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = 2
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, device: Any) -> int:
        device._obj.value = index + 1
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, device: Any, used: Any) -> int:
        used._obj.value = {1: 5000, 2: 7000}[device.value] + 1000 * self.looks
        return 0


def test_devices_are_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    meter = EnergyMeter(tmp_path)
    meter.start()
    used = meter.used()
    assert used.gpu_j == pytest.approx(2.0)
    assert used.cpu_j is None


def test_a_library_that_refuses_or_lacks_a_function_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_millijoules("no-such-library.so") is None

    class Refuses(Library):
        def nvmlInit_v2(self) -> int:
            return 9

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Refuses())
    assert device_millijoules() is None
    monkeypatch.setattr(ctypes, "CDLL", lambda _: ctypes.pythonapi)
    assert device_millijoules() is None
