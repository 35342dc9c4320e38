"""Finished runs without pixels: true boxes of a drawn drive through a detector's noise, fused and tracked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from perception_batch.calibration import Rig
from perception_batch.config import RunConfig, load_config
from perception_batch.evaluate.tables import read_columns
from perception_batch.geometry import SE3
from perception_batch.outputs import result_writers
from perception_batch.read import open_log
from perception_batch.replay import fuse_stored
from perception_batch.simulate.detector_noise import LABELS, DetectorNoise, noise_detections
from perception_batch.simulate.noise_settings import TruthImage
from perception_batch.simulate.truth_boxes import truth_images
from perception_batch.types import Detections, EgoPose, FrameRow, FrameStatus, Fusion, TimestepResult
from perception_batch.write import (
    DriveFacts,
    EgoWriter,
    FramesWriter,
    Manifest,
    TracksWriter,
    WriterGroup,
    write_manifest,
    write_rig,
)

_EGO = ("cycle_ns", "x_m", "y_m", "z_m", "qx", "qy", "qz", "qw", "vx_mps", "vy_mps", "vz_mps")


def write_noisy_run(
    truth: Path, directory: Path, noise: DetectorNoise, *, log: Path | None = None, asked: str | None = None
) -> Path:
    """A run folder of the pictures of a truth folder, as a detector with `noise` would have seen them.

    Args:
        truth: folder of a simulated drive's truth.
        directory: of the run; its name is the drive's.
        noise: the detector.
        log: of the drive, where images are wanted too.
        asked: `detect.classes`, as YAML.
    """
    directory.mkdir(parents=True)
    overrides = ["write.timesteps=none", "render.video=false"]
    config = load_config(None, overrides + ([f"detect.classes={asked}"] if asked else []))
    meta = json.loads((truth / "meta.json").read_text())
    rig = Rig.from_dict(meta["rig"])
    poses = _poses(truth)
    facts = DriveFacts(directory.name, poses[0].stamp_ns, LABELS, rig.base_frame, has_ego=True)
    _write_detections(directory, truth, facts, config, noise, poses)
    write_rig(directory, rig.to_dict())
    manifest = Manifest(
        directory.name,
        "complete",
        log={
            "paths": [str(log or f"car_7/{directory.name}.mcap")],
            "fingerprint": _fingerprint(log, config) if log is not None else directory.name,
            "first_stamp_ns": facts.first_stamp_ns,
        },
        config=config.model_dump(mode="json"),
        model={"path": "noise.pt", "sha256": "0" * 64, "labels": {str(k): v for k, v in LABELS.items()}},
        exit_status=0,
    )
    write_manifest(directory, manifest)
    write_manifest(directory, fuse_stored(directory, manifest, config, rig))
    return directory


def _fingerprint(log: Path, config: RunConfig) -> str:
    with open_log([log], config.read, config.cameras) as opened:
        return opened.fingerprint()


def _poses(truth: Path) -> list[EgoPose]:
    ego = read_columns(truth / "ego.parquet", _EGO)
    return [
        EgoPose(int(row[0]), "odom", SE3.from_quaternion(row[4:8], row[1:4]), np.array(row[8:]), "tf")
        for row in zip(*(ego[name].tolist() for name in _EGO), strict=True)
    ]


def _write_detections(
    directory: Path,
    truth: Path,
    facts: DriveFacts,
    config: RunConfig,
    noise: DetectorNoise,
    poses: list[EgoPose],
) -> None:
    images = list(truth_images(truth))
    by_place: dict[tuple[int, str], TruthImage] = {
        (i.timestep, i.camera if isinstance(i.camera, str) else i.camera.name): i for i in images
    }
    found: list[dict[str, Detections]] = [{} for _ in poses]
    for timestep, camera, boxes in noise_detections(images, noise):
        found[timestep][camera] = boxes
    with (
        WriterGroup(result_writers(directory, facts, config)) as group,
        FramesWriter(directory, facts) as frames,
        EgoWriter(directory, facts) as egos,
        TracksWriter(directory, facts),
    ):
        egos.write(poses)
        for index, (pose, seen) in enumerate(zip(poses, found, strict=True)):
            sizes = {camera: by_place[index, camera].image_hw for camera in seen}
            stamps = {camera: by_place[index, camera].stamp_ns for camera in seen}
            status: dict[str, FrameStatus] = dict.fromkeys(seen, "ok")
            nothing = Fusion((), {}, {})
            group.write(TimestepResult(index, pose.stamp_ns, status, stamps, seen, nothing, pose, sizes))
            frames.write(
                FrameRow(c, s, s, index, "used", "", sizes[c][1], sizes[c][0], "jpeg")
                for c, s in stamps.items()
            )
