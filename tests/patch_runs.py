"""Small runs over pictures of plain patches, whose boxes are known; the rest of the chain is the real one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from log_writer import CameraSpec, write_log
from patch_detector import PatchDetector, patches

from perception_batch import pipeline
from perception_batch.config import RunConfig, load_config
from perception_batch.job import Job

TABLES = ("detections", "timesteps", "objects", "observations", "frames", "ego", "tracks")


def watch_detectors(monkeypatch: pytest.MonkeyPatch) -> list[PatchDetector]:
    """Replaces the network; the list will hold the detectors that were opened."""
    opened: list[PatchDetector] = []

    def open_detector(settings: Any) -> PatchDetector:
        opened.append(PatchDetector(settings))
        return opened[-1]

    monkeypatch.setattr(pipeline, "open_detector", open_detector)
    return opened


def cameras(**changes: Any) -> list[CameraSpec]:
    common = {"size": (160, 96), "draw": patches, "encoding": "png"}
    return [
        CameraSpec("cam_front", **common),
        CameraSpec("cam_left", phase_ms=12, yaw_deg=90, **{**common, **changes}),
        CameraSpec("cam_wide", phase_ms=25, yaw_deg=-90, **{**common, "size": (128, 128)}),
    ]


def settings(*overrides: str) -> RunConfig:
    return load_config(
        None, ["detect.image_size=160", "render.width_px=480", "runs.loss_limit_percent=50", *overrides]
    )


def job(log: Path, out: Path, *overrides: str, **changes: Any) -> Job:
    return replace(Job("drive", (log,), out, settings(*overrides)), **changes)


def write_drive(folder: Path) -> Path:
    """Three cameras of two shapes, 20 cycles, drops and two broken images, driving at 8 m/s."""
    return write_log(folder, "mcap", cameras(drop=(3, 4, 11), broken=(7, 15)), frames=20, ego_speed_mps=8.0)
