"""The names that Python programs use."""

from __future__ import annotations

from pathlib import Path

import pytest
from log_writer import CameraSpec, write_log
from patch_detector import PatchDetector, patches

import perception_batch
from perception_batch import fuse, load_config, load_run, open_log, pipeline, run
from perception_batch.errors import LogError
from perception_batch.types import EncodedFrame


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pipeline, "open_detector", PatchDetector)
    specs = [CameraSpec(name, size=(160, 96), draw=patches, encoding="png") for name in ("a", "b")]
    return write_log(tmp_path / "in", "bag1", specs, frames=5, ego_speed_mps=3.0)


def test_all_is_what_the_contract_lists() -> None:
    assert {"open_log", "load_config", "run", "fuse", "load_run"} <= set(perception_batch.__all__)
    for name in perception_batch.__all__:
        assert getattr(perception_batch, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'frobnicate'"):
        _ = perception_batch.frobnicate


def test_run_load_and_fuse(log: Path, tmp_path: Path) -> None:
    config = load_config(None, ["render.video=false"])
    done = run(log, tmp_path / "out", config=config)
    assert done.directory == tmp_path / "out" / "log"
    again = load_run(done.directory)
    assert again.detections.num_rows == done.manifest.counts["detections"] == 20
    assert again.frames.num_rows == 10
    assert again.ego.num_rows > 10
    assert again.tracks.num_rows == done.manifest.counts["tracks"] == 2
    assert again.observations.num_rows == 20
    steps = list(again.timesteps())
    assert [s["index"] for s in steps] == list(range(5))
    assert sum(len(s["objects"]) for s in steps) == again.objects.num_rows
    stricter = fuse(done.directory, ["detect.score=0.85"], out=tmp_path / "strict")
    assert stricter.objects.num_rows < again.objects.num_rows
    assert load_run(tmp_path / "strict").manifest.config["detect"]["score"] == 0.85


def test_a_run_without_lines_says_so(log: Path, tmp_path: Path) -> None:
    config = load_config(None, ["render.video=false", "write.timesteps=none"])
    done = run(log, tmp_path / "out", config=config)
    with pytest.raises(LogError, match=r"write\.timesteps=none"):
        done.timesteps()


def test_open_log_streams_frames(log: Path) -> None:
    with open_log(log) as drive:
        assert set(drive.cameras) == {"a", "b"}
        frames = [item for item in drive.stream(drive.select(None)) if isinstance(item, EncodedFrame)]
    assert len(frames) == 10


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"run\.json is missing"):
        load_run(tmp_path)
