"""`verify`: detectors that agree, detectors that do not, and what the exit status says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from log_writer import CameraSpec, write_log
from patch_detector import PatchDetector, patches

from perception_batch import verification
from perception_batch.cli import main
from perception_batch.config import DetectConfig
from perception_batch.errors import ModelError
from perception_batch.geometry import DetectorView
from perception_batch.types import Detections

FORMS = (("torch", "fp32"), ("openvino", "fp32"), ("openvino", "int8"), ("onnx", "fp32"))


class OneOfMany(PatchDetector):
    """Finds what patches show, and then errs as the test wants: by form, and by batch size."""

    def __init__(self, settings: DetectConfig, errs: dict[tuple[str, str, int], str]) -> None:
        super().__init__(settings)
        backend = "torch" if settings.backend == "auto" else settings.backend
        precision = "fp32" if settings.precision == "auto" else settings.precision
        if backend == "onnx":
            raise ModelError("the onnx form is\x1bbroken")
        self.info = replace(self.info, backend=backend, precision=precision)
        self._err = errs.get((backend, precision, self.info.batch_size), "")

    def detect(
        self, images: npt.NDArray[np.uint8], views: Sequence[DetectorView], keep_score: Sequence[float]
    ) -> list[Detections]:
        return [self._erring(found) for found in super().detect(images, views, keep_score)]

    def _erring(self, found: Detections) -> Detections:
        if self._err == "score":
            return Detections(found.xyxy, found.score - np.float32(0.02), found.class_id)
        if self._err == "lost":
            return Detections(found.xyxy[1:], found.score[1:], found.class_id[1:])
        return found


@pytest.fixture
def errs(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str, int], str]:
    """By backend, precision and batch size: what goes wrong."""
    table: dict[tuple[str, str, int], str] = {}
    monkeypatch.setattr(verification, "open_detector", lambda settings: OneOfMany(settings, table))
    monkeypatch.setattr(verification, "available_forms", lambda settings, path: FORMS)
    monkeypatch.setattr(verification, "find_weights", Path)
    return table


@pytest.fixture
def log(tmp_path: Path) -> Path:
    common: dict[str, Any] = {"draw": patches, "encoding": "png"}
    cameras = [
        CameraSpec("cam_front", size=(160, 96), broken=(0,), **common),
        CameraSpec("cam_wide", size=(128, 128), **common),
    ]
    return write_log(tmp_path / "in", "mcap", cameras, frames=12)


def words(log: Path, *more: str) -> list[str]:
    return ["verify", str(log), "--set", "detect.image_size=160", "--batch-size", "4", *more]


def report(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_what_agrees_passes_and_what_cannot_be_opened_is_named(
    log: Path, errs: dict[tuple[str, str, int], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(log, "--frames", "9", "--json")) == 0
    found = report(capsys)
    assert (found["images"], found["undecodable"], found["failed"]) == (9, 1, False)
    assert found["chosen"] == "torch fp32, batch 4"
    rows = [(r["backend"], r["precision"], r["batch_size"], r["kind"], r["within"]) for r in found["rows"]]
    assert rows == [
        ("torch", "fp32", 1, "reference", True),
        ("torch", "fp32", 4, "batch", True),
        ("openvino", "fp32", 1, "backend", True),
        ("openvino", "fp32", 4, "batch", True),
        ("onnx", "fp32", 1, "precision", False),
        ("openvino", "int8", 1, "precision", True),
        ("openvino", "int8", 4, "batch", True),
    ]
    for row in found["rows"]:
        if not row["error"]:
            assert row["boxes"] == 2 * row["matched"] == 36  # two patches a picture
    assert main(words(log)) == 0
    text = capsys.readouterr().out
    assert "not tried: onnx fp32: the onnx form is\\x1bbroken" in text
    assert "all within their limits" in text


@pytest.mark.parametrize(
    ("key", "err", "differs", "limits"),
    [
        (("torch", "fp32", 4), "score", 100.0, ["--limit-score", "0.03"]),
        (("openvino", "fp32", 4), "lost", 100 / 3, ["--limit", "34"]),
        (("openvino", "int8", 1), "lost", 100 / 3, ["--limit-int8", "34", "--limit", "34"]),
    ],
)
def test_what_differs_fails_above_its_limit_only(
    log: Path,
    errs: dict[tuple[str, str, int], str],
    capsys: pytest.CaptureFixture[str],
    key: tuple[str, str, int],
    err: str,
    differs: float,
    limits: list[str],
) -> None:
    errs[key] = err
    assert main(words(log, "--json")) == 1
    found = report(capsys)
    (row,) = [r for r in found["rows"] if (r["backend"], r["precision"], r["batch_size"]) == key]
    assert found["failed"] and not row["within"]
    assert row["differs_percent"] == pytest.approx(differs, abs=1e-3)
    if err == "lost":
        assert (row["lost"], row["gained"]) == (found["images"], 0)
    else:
        assert (row["lost"], row["score_difference"]) == (0, pytest.approx(0.02, abs=1e-6))
    assert main(words(log)) == 1
    assert "FAILS" in capsys.readouterr().out
    assert main(words(log, *limits)) == 0


def test_a_sample_without_boxes_verifies_nothing_and_says_so(
    tmp_path: Path, errs: dict[tuple[str, str, int], str], capsys: pytest.CaptureFixture[str]
) -> None:
    grey = write_log(tmp_path / "in", "mcap", [CameraSpec("cam", size=(64, 64), encoding="png")], frames=3)
    assert main(words(grey, "--set", "detect.score=0.95")) == 1
    assert "verifies nothing" in capsys.readouterr().err
    assert main(words(grey, "--limit", "-1")) == 2


@pytest.mark.real
def test_real_weights_agree_with_themselves(
    recordings: Path,
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # nothing was exported there
    asked = ["verify", str(recordings / "nuscenes_sample.bag"), "--model", str(weights), "--json"]
    assert main([*asked, "--batch-size", "4", "--set", "detect.backend=torch", "--device", "cpu"]) == 0
    found = report(capsys)
    assert found["images"] == 6
    assert [(r["backend"], r["batch_size"]) for r in found["rows"]] == [("torch", 1), ("torch", 4)]
    assert found["rows"][1]["matched"] > 20 and found["rows"][1]["same_percent"] == 100
