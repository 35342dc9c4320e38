"""Small runs with outputs at URLs, and what lies there afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from log_writer import CameraSpec
from patch_detector import PatchDetector, patches
from url_stores import SETTINGS

from perception_batch import drive_output, drives_wanted, pipeline
from perception_batch.collection import RunRequest, run_all
from perception_batch.config import load_config
from perception_batch.runs import OutputUrl

IMAGES = 26 + 26 - 2 - 1
"""That can be decoded, of the longer log (`cameras`, 26 frames)."""
TABLES = ("detections", "objects", "observations", "tracks", "frames", "ego", "timesteps")


class Counting(PatchDetector):
    """Counts the images that were detected."""

    images = 0

    def detect(self, images: Any, views: Any, keep_score: Any) -> Any:
        Counting.images += len(images)
        return super().detect(images, views, keep_score)


def cameras() -> list[CameraSpec]:
    common: dict[str, Any] = {"draw": patches, "encoding": "png"}
    return [
        CameraSpec("front", size=(96, 64), **common),
        CameraSpec("left", size=(64, 64), phase_ms=12, yaw_deg=90, drop=(3, 9), broken=(7,), **common),
    ]


def request(log: Path, url: str, scratch: Path, *settings: str, **more: Any) -> RunRequest:
    place = OutputUrl.parse(url, scratch)
    assert place is not None
    config = load_config(None, [*SETTINGS, *settings])
    return RunRequest((log,), drive_output.local_out(place), config, url=place, **more)


def names_at(url: str) -> set[str]:
    place = OutputUrl.parse(url)
    assert place is not None
    return set(place.files().list())


def bytes_at(url: str, drive: str) -> dict[str, bytes]:
    """Tables and lines of a run at a URL."""
    place = OutputUrl.parse(url)
    assert place is not None
    names = [n for n in place.files().list(drive) if n.endswith((".parquet", ".jsonl"))]
    return {n.rpartition("/")[2]: place.files().read(f"{drive}/{n}") or b"" for n in names}


def run_json(url: str, drive: str) -> dict[str, Any]:
    place = OutputUrl.parse(url)
    assert place is not None
    found: dict[str, Any] = json.loads(place.files().read(f"{drive}/run.json") or b"{}")
    return found


def in_a_folder(log: Path, out: Path, *settings: str) -> dict[str, bytes]:
    """The tables of an uninterrupted run in a folder; one drive, or several by drive's name."""
    assert run_all(RunRequest((log,), out, load_config(None, [*SETTINGS, *settings]))) == 0
    files = sorted(
        p for p in out.glob("*/*") if p.suffix in (".parquet", ".jsonl") and p.parent.name[0] != "."
    )
    if len({p.parent for p in files}) == 1:
        return {p.name: p.read_bytes() for p in files}
    return {f"{p.parent.name}/{p.name}": p.read_bytes() for p in files}


def expected_of(log: Path, out: Path) -> dict[str, bytes]:
    """`in_a_folder` before any test has set its detector."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "open_detector", PatchDetector)
        patch.setattr(drives_wanted, "known_sha256", lambda _: "0" * 64)
        return in_a_folder(log, out)
