"""Several devices: the same bytes as one, and clear words where they cannot work together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from log_writer import CameraSpec, write_log
from patch_detector import PatchDetector, patches

from perception_batch.cli import main
from perception_batch.config import DetectConfig, load_config
from perception_batch.devices import each_device, open_devices
from perception_batch.errors import ConfigError, ModelError
from perception_batch.job import Job
from perception_batch.pipeline import run_drive


class OnDevice(PatchDetector):
    """A patch detector that says which device it has, and has two copies there."""

    def __init__(self, settings: DetectConfig) -> None:
        super().__init__(settings)
        self._settings = settings
        self.info = replace(self.info, device=settings.device, copies=2)

    def copy(self) -> OnDevice:
        other = OnDevice(self._settings)
        other.batches = self.batches
        return other


@pytest.fixture
def log(tmp_path: Path) -> Path:
    cameras = [
        CameraSpec(f"cam_{i}", size=(160, 96), draw=patches, encoding="png", phase_ms=5 * i) for i in range(3)
    ]
    return write_log(tmp_path / "in", "mcap", cameras, frames=14)


@pytest.mark.parametrize("threads", [True, False])
def test_two_devices_share_the_batches_and_give_the_bytes_of_one(
    log: Path, tmp_path: Path, threads: bool
) -> None:
    opened: list[OnDevice] = []

    def opener(settings: DetectConfig) -> OnDevice:
        opened.append(OnDevice(settings))
        return opened[-1]

    def run(device: str) -> Any:
        config = load_config(
            None,
            [
                "detect.image_size=160",
                "render.width_px=480",
                "detect.batch_size=4",
                f'detect.device="{device}"',
            ],
        )
        job = Job("drive", (log,), tmp_path / device, config, threads=threads)
        return run_drive(job, open_with=opener)

    alone, both = run("cuda:0"), run("cuda:0,cuda:1")
    one, first, second = opened
    assert (first.info.device, second.info.device) == ("cuda:0", "cuda:1")
    assert one.closed and first.closed and second.closed
    assert both.manifest.device == "cuda:0,cuda:1"
    for name in ("detections", "objects", "observations", "tracks", "timesteps"):
        file = f"{name}.parquet"
        assert (alone.directory / file).read_bytes() == (both.directory / file).read_bytes(), file
    batches = len(one.batches)
    assert len(first.batches) == (batches if not threads else -(-batches // 2))
    assert len(second.batches) == (0 if not threads else batches // 2)


def test_devices_that_cannot_run_the_model_alike_are_refused_and_closed() -> None:
    opened: list[PatchDetector] = []

    def opener(settings: DetectConfig) -> PatchDetector:
        opened.append(OnDevice(settings))
        if settings.device == "cuda:1":
            opened[-1].info = replace(opened[-1].info, precision="fp16")
        return opened[-1]

    settings = DetectConfig(device="cuda:0,cuda:1")
    with pytest.raises(
        ModelError, match=r"cuda:1 would run the model by patches in fp16, cuda:0 by patches in fp32"
    ):
        open_devices(settings, opener)
    assert all(detector.closed for detector in opened)
    single = open_devices(DetectConfig(device="cuda:0"), opener)
    assert each_device(single) == (single,)


def test_the_smallest_batch_of_all_devices_is_used() -> None:
    def opener(settings: DetectConfig) -> PatchDetector:
        found = OnDevice(settings)
        found.info = replace(found.info, batch_size=8 if settings.device == "cuda:0" else 2)
        return found

    both = open_devices(DetectConfig(device="cuda:0, cuda:1"), opener)
    assert [part.info.batch_size for part in each_device(both)] == [2, 2]
    both.use_batch_size(5)
    assert [part.info.batch_size for part in each_device(both)] == [5, 5]


@pytest.mark.parametrize(
    "device", ["cuda:0,cuda:0", "cpu,cuda:0", "cuda:0,", "cuda:0,auto", "cuda:x", "cuda:٣"]
)
def test_wrong_lists_are_refused(device: str) -> None:
    with pytest.raises(ConfigError, match=r"detect\.device"):
        load_config(None, [f'detect.device="{device}"'])


@pytest.mark.real
def test_a_device_that_is_not_there_is_one_line(
    log: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "run",
        str(log),
        "--out",
        str(tmp_path / "out"),
        "--model",
        str(weights),
        "--device",
        "cuda:97,cuda:98",
    ]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "cuda:97" in said and said.count("\n") == 1


@pytest.mark.gpu
@pytest.mark.real
def test_two_real_devices_give_the_boxes_of_one(recordings: Path, weights: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    if torch.cuda.get_device_name(0) != torch.cuda.get_device_name(1):
        pytest.skip("needs two CUDA devices of one make")
    tables = []
    for device in ("cuda:0", "cuda:0,cuda:1"):
        overrides = [f'detect.device="{device}"', f'detect.model="{weights}"', "detect.batch_size=2"]
        config = load_config(None, [*overrides, "render.video=false", "detect.backend=torch"])
        job = Job("drive", (recordings / "nuscenes_n008",), tmp_path / device, config)
        tables.append((run_drive(job).directory / "detections.parquet").read_bytes())
    assert tables[0] == tables[1]
