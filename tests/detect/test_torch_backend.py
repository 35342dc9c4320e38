"""Loading, devices, batches and errors of the torch backend, on small random networks."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from perception_batch.config import DetectConfig
from perception_batch.detect import BACKENDS, Detector, open_detector, prepare, torch_backend
from perception_batch.errors import ConfigError, ModelError
from perception_batch.geometry import box_iou
from perception_batch.types import Detections

Make = Callable[[str], Path]


def photos(count: int, hw: tuple[int, int] = (96, 160)) -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    return [cv2.GaussianBlur(rng.integers(0, 256, (*hw, 3), np.uint8), (0, 0), 3) for _ in range(count)]


def run(detector: Detector, images: list[np.ndarray], keep: float = 0.06, **view: int) -> list[Detections]:
    views = [detector.view(image.shape[:2], **view) for image in images]
    batch = np.stack([prepare(i, v) for i, v in zip(images, views, strict=True)])
    return detector.detect(batch, views, [keep] * len(images))


def equal(a: Detections, b: Detections) -> bool:
    return a.xyxy.tobytes() + a.score.tobytes() + a.class_id.tobytes() == (
        b.xyxy.tobytes() + b.score.tobytes() + b.class_id.tobytes()
    )


@pytest.fixture(scope="module")
def settings(make_weights: Make) -> DetectConfig:
    return DetectConfig(
        model=str(make_weights("yolo11n.yaml")), backend="torch", device="cpu", batch_size=4, image_size=160
    )


@pytest.fixture(scope="module")
def detector(settings: DetectConfig) -> Detector:
    return open_detector(settings)


def test_info_says_what_was_loaded(detector: Detector, settings: DetectConfig) -> None:
    info = detector.info
    assert info.sha256 == hashlib.sha256(Path(settings.model).read_bytes()).hexdigest()
    assert (info.backend, info.device, info.precision, info.task) == ("torch", "cpu", "fp32", "detect")
    assert (info.stride, info.family, info.batch_size) == (32, "letterbox", 4)
    assert 1 <= info.threads <= (os.cpu_count() or 1)
    assert info.backend in BACKENDS


def test_auto_sizes(settings: DetectConfig) -> None:
    auto = open_detector(settings.model_copy(update={"batch_size": "auto", "threads": 1}))
    assert (auto.info.batch_size, auto.info.threads) == (torch_backend.AUTO_BATCH_CPU, 1)
    auto.close()


def test_boxes_do_not_depend_on_batch_mates_or_fill(detector: Detector) -> None:
    images = photos(4)
    together = run(detector, images)
    assert all(len(found) > 5 for found in together)
    backwards = run(detector, images[::-1])[::-1]
    assert all(map(equal, together, backwards))
    for i in range(4):
        (alone,) = run(detector, images[i : i + 1])
        assert equal(alone, together[i])
    other_size = run(detector, photos(2, (160, 96)))
    assert len(other_size) == 2
    assert all(map(equal, together, run(detector, images)))


def test_each_image_has_its_own_score(detector: Detector) -> None:
    images = photos(2)
    views = [detector.view(image.shape[:2]) for image in images]
    batch = np.stack([prepare(i, v) for i, v in zip(images, views, strict=True)])
    everything = detector.detect(batch, views, [0.06, 0.06])
    limit = float(np.median(everything[0].score))
    cut = detector.detect(batch, views, [limit, 0.06])
    n = len(cut[0])
    assert 0 < n < len(everything[0])
    assert (cut[0].score >= np.float32(limit)).all()
    assert (cut[0].xyxy == everything[0].xyxy[:n]).all()
    assert equal(cut[1], everything[1])


def test_a_turned_camera_gives_boxes_of_its_own_image(detector: Detector) -> None:
    (image,) = photos(1)
    (upright,) = run(detector, [image])
    (hung,) = run(detector, [np.ascontiguousarray(image[::-1, ::-1])], rotate_deg=180)
    h, w = image.shape[:2]
    back = np.stack([w - hung.xyxy[:, 2], h - hung.xyxy[:, 3], w - hung.xyxy[:, 0], h - hung.xyxy[:, 1]], 1)
    assert (np.sort(hung.score) == np.sort(upright.score)).all()
    assert (box_iou(upright.xyxy, back).max(1) > 0.999).all()


def test_boxes_stay_in_the_region_of_interest(detector: Detector) -> None:
    (image,) = photos(1, (200, 300))
    view = detector.view((200, 300), roi_px=(100, 50, 260, 146))
    (found,) = detector.detect(prepare(image, view)[None], [view], [0.06])
    (cropped,) = run(detector, [np.ascontiguousarray(image[50:146, 100:260])])
    np.testing.assert_allclose(found.xyxy, cropped.xyxy + np.float32([100, 50, 100, 50]), atol=1e-4)


def test_views_that_cannot_be(detector: Detector) -> None:
    with pytest.raises(ConfigError, match="roi_px"):
        detector.view((100, 100), roi_px=(50, 50, 200, 60))
    assert detector.view((100, 200), image_size=64).input_hw == (32, 64)


def test_wrong_calls_are_refused(detector: Detector) -> None:
    view = detector.view((96, 160))
    images = np.zeros((5, *view.input_hw, 3), np.uint8)
    with pytest.raises(ValueError, match="at most 4"):
        detector.detect(images, [view] * 5, [0.1] * 5)
    with pytest.raises(ValueError, match="equal numbers"):
        detector.detect(images[:2], [view], [0.1])
    with pytest.raises(ValueError, match="uint8"):
        detector.detect(images[:1].astype(np.float32), [view], [0.1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="size"):
        detector.detect(images[:1], [detector.view((160, 96))], [0.1])
    assert detector.detect(images[:0], [], []) == []


def test_threads_are_set_for_the_batch_alone(settings: DetectConfig) -> None:
    single = open_detector(settings.model_copy(update={"threads": 1}))
    before = torch.get_num_threads()
    seen: list[int] = []
    network = single._network  # type: ignore[attr-defined]
    network.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    run(single, photos(1))
    assert seen == [1]
    assert torch.get_num_threads() == before


def test_out_of_memory_halves_the_batch_and_goes_on(
    settings: DetectConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    small = open_detector(settings)
    images = photos(4)
    expected = run(small, images)
    forward = torch_backend.TorchDetector._forward
    sizes: list[int] = []

    def tight(self: torch_backend.TorchDetector, batch: np.ndarray) -> torch.Tensor:
        sizes.append(self._chunk)
        if self._chunk > fits[0]:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return forward(self, batch)

    monkeypatch.setattr(torch_backend.TorchDetector, "_forward", tight)
    fits = [1]
    with caplog.at_level(logging.WARNING):
        found = run(small, images)
    assert sizes == [4, 2, 1, 1, 1, 1]
    assert [r.message for r in caplog.records if "out of memory" in r.message] == [
        "cpu is out of memory: going on with 2 images at a time (detect.batch_size)",
        "cpu is out of memory: going on with 1 images at a time (detect.batch_size)",
    ]
    for a, b in zip(found, expected, strict=True):
        assert len(a) == len(b)
        np.testing.assert_allclose(a.score, b.score, atol=1e-3)
    fits = [0]
    with pytest.raises(ModelError, match="too little memory for a single image of 160x96"):
        run(small, images)


def test_half_precision_decodes_boxes_in_fp32(settings: DetectConfig, make_weights: Make) -> None:
    """What CUDA runs, on the CPU, which can do it slowly: for each kind of head."""
    for config in ("yolo11n.yaml", "yolo26n.yaml"):
        opened = open_detector(settings.model_copy(update={"model": str(make_weights(config))}))
        expected = run(opened, photos(2))
        network, form = opened._network, opened._form  # type: ignore[attr-defined]
        head = network.model[-1]
        half = torch_backend.optimize(network, head, form, torch.device("cpu"), "fp16")
        opened._dtype = torch.float16  # type: ignore[attr-defined]
        assert next(half.parameters()).dtype == torch.float16
        with torch.inference_mode():
            output = half(torch.rand(1, 3, 96, 160, dtype=torch.float16))[0]
        assert output.dtype == torch.float32
        for a, b in zip(run(opened, photos(2)), expected, strict=True):
            strong = b.score > 0.12
            assert strong.any()
            iou = box_iou(b.xyxy[strong], a.xyxy)
            assert (iou.max(1) > 0.95).mean() > 0.9


@pytest.mark.parametrize("device", ["cuda:97", "cuda:3"])
def test_devices_that_are_not_there_are_named(settings: DetectConfig, device: str) -> None:
    if torch.cuda.is_available() and torch.cuda.device_count() > 3:
        device = "cuda:97"
    with pytest.raises(ModelError, match=rf"{device} is not there; this machine has: cpu"):
        open_detector(settings.model_copy(update={"device": device}))


def test_half_precision_on_the_cpu_is_refused(settings: DetectConfig) -> None:
    with pytest.raises(ConfigError, match="fp16 needs a CUDA device"):
        open_detector(settings.model_copy(update={"precision": "fp16"}))


def test_a_pinned_hash_must_agree(settings: DetectConfig) -> None:
    right = hashlib.sha256(Path(settings.model).read_bytes()).hexdigest()
    open_detector(settings.model_copy(update={"sha256": right.upper()})).close()
    with pytest.raises(ModelError, match=f"has SHA-256 {right}, detect.sha256 pins 00ff"):
        open_detector(settings.model_copy(update={"sha256": "00ff"}))


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ("yolo11n-cls.yaml", "classify"),
        ("yolo11n-seg.yaml", "segment"),
        ("yolo11n-obb.yaml", "obb"),
        ("yolo11n-pose.yaml", "pose"),
    ],
)
def test_models_for_other_tasks_are_refused(make_weights: Make, config: str, task: str) -> None:
    with pytest.raises(ModelError, match=f"task '{task}'.*only detection models"):
        open_detector(DetectConfig(model=str(make_weights(config)), backend="torch", device="cpu"))


class Evil:
    """Unpickling this runs a command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


def test_files_that_are_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_weights: Make
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = make_weights("yolo11n.yaml").read_bytes()
    contents: dict[str, bytes] = {
        "empty.pt": b"",
        "text.pt": b"hello there, this is no model\n" * 50,
        "jpeg.pt": cv2.imencode(".jpg", photos(1)[0])[1].tobytes(),
        "cut.pt": whole[: len(whole) // 2],
        "pickle.pt": pickle.dumps({"model": [1, 2, 3]}),
        "evil_pickle.pt": pickle.dumps({"model": Evil()}),
        "model.onnx": whole,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "state.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in [*contents, "evil.pt", "state.pt", "list.pt"]:
        with pytest.raises(ModelError) as caught:
            open_detector(DetectConfig(model=str(tmp_path / name), backend="torch", device="cpu"))
        assert str(caught.value).isprintable(), name
        assert name in str(caught.value)
    assert not (tmp_path / "pwned").exists(), "weights ran a command"


def test_loading_leaves_the_process_as_it_was(settings: DetectConfig) -> None:
    """In a fresh process: light import, then threads, environment and working directory untouched."""
    code = f"""
import json, os, sys
import perception_batch.detect as detect
light = [m for m in ("torch", "ultralytics") if m in sys.modules]
import cv2, torch
from perception_batch.config import DetectConfig
state = lambda: [dict(os.environ), cv2.getNumThreads(), torch.get_num_threads(), sorted(os.listdir("."))]
before = state()
detect.open_detector(DetectConfig(model={settings.model!r}, backend="torch", device="cpu"))
from ultralytics.utils import SETTINGS, ONLINE, AUTOINSTALL
print(json.dumps([light, before == state(), ONLINE, AUTOINSTALL]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout) == [[], True, False, False]


@pytest.mark.gpu
@pytest.mark.parametrize("config", ["yolov8n.yaml", "yolo11n.yaml", "yolo26n.yaml", "rtdetr-l.yaml"])
@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_cuda_gives_the_boxes_of_the_cpu(make_weights: Make, config: str, precision: str) -> None:
    common = {"model": str(make_weights(config)), "backend": "torch", "batch_size": 4, "image_size": 160}
    cpu = open_detector(DetectConfig(device="cpu", **common))
    gpu = open_detector(DetectConfig(device="auto", precision=precision, **common))
    assert gpu.info.device == "cuda:0"
    assert gpu.info.precision == ("fp32" if precision == "fp32" else "fp16")
    images = photos(3)
    expected, found = run(cpu, images), run(gpu, images)
    assert all(map(equal, found, run(gpu, images))), "the same twice"
    for a, b in zip(found, expected, strict=True):
        strong = b.score > 0.12
        assert strong.any()
        iou = box_iou(b.xyxy[strong], a.xyxy)
        close = np.abs(b.score[strong][:, None] - a.score[None]) <= (1e-3 if precision == "fp32" else 0.02)
        partner = ((iou > 0.95) & close).any(1)
        assert partner.mean() >= (0.99 if precision == "fp32" else 0.9)
    gpu.close()


@pytest.mark.gpu
@pytest.mark.real
def test_cuda_half_precision_on_real_images(
    recordings: Path, weights: Path, read_images: Callable[..., tuple[np.ndarray, ...]]
) -> None:
    images = list(read_images(recordings / "nuscenes_n008"))
    common = {"model": str(weights), "backend": "torch", "batch_size": 6}
    cpu = open_detector(DetectConfig(device="cpu", **common))
    gpu = open_detector(DetectConfig(device="cuda", **common))
    matched = total = 0
    for start in range(0, len(images), 6):
        part = images[start : start + 6]
        for a, b in zip(run(gpu, part, 0.2), run(cpu, part, 0.2), strict=True):
            strong = b.score >= 0.25
            same = b.class_id[strong][:, None] == a.class_id[None]
            close = np.abs(b.score[strong][:, None] - a.score[None]) <= 0.02
            matched += int((same & close & (box_iou(b.xyxy[strong], a.xyxy) > 0.95)).any(1).sum())
            total += int(strong.sum())
    assert total > 30
    assert matched >= 0.97 * total


@pytest.mark.gpu
def test_cuda_out_of_memory_is_survived(make_weights: Make) -> None:
    path = str(make_weights("yolov8n.yaml"))
    gpu = open_detector(
        DetectConfig(model=path, backend="torch", device="cuda", batch_size=64, image_size=640)
    )
    images = photos(8, (640, 640))
    expected = run(gpu, images)
    gpu.close()
    torch.cuda.empty_cache()
    used = torch.cuda.memory_allocated() / torch.cuda.get_device_properties(0).total_memory
    limit = 600e6 / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, used + limit))
    try:
        tight = open_detector(
            DetectConfig(model=path, backend="torch", device="cuda", batch_size=64, image_size=640)
        )
        found = run(tight, images)
        assert tight._chunk < 64  # type: ignore[attr-defined]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    for a, b in zip(found, expected, strict=True):
        assert abs(len(a) - len(b)) <= max(3, len(b) // 10)
