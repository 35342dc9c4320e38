"""Every backend gives the boxes of PyTorch, at any batch size; and which one is chosen."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from detect_pictures import boxes_of, identical

from perception_batch.config import DetectConfig
from perception_batch.detect import (
    available_forms,
    choose,
    compare_boxes,
    cuda,
    open_detector,
    tensorrt_backend,
)
from perception_batch.detect.export_cache import find_cached
from perception_batch.detect.facts import open_exported
from perception_batch.detect.weights import sha256_of
from perception_batch.errors import ConfigError, ModelError

Make = Callable[[str], Path]
EXPORTED = ["openvino", "onnx"]


def pictures() -> list[np.ndarray]:
    """Three sizes, so three shapes of the network's input."""
    rng = np.random.default_rng(3)
    return [
        cv2.GaussianBlur(rng.integers(0, 256, (h, w, 3), np.uint8), (0, 0), 4)
        for h, w in [(188, 621), (300, 400), (96, 160), (300, 400)]
    ]


def settings_for(weights: Path, backend: str, **more: Any) -> DetectConfig:
    return DetectConfig(
        model=str(weights), backend=backend, **{"device": "cpu", "image_size": 160, "batch_size": 4, **more}
    )


@pytest.mark.parametrize(
    ("config", "backend"),
    [
        ("yolov8n.yaml", "openvino"),
        ("yolo11n.yaml", "openvino"),
        ("yolo11n.yaml", "onnx"),
        ("yolo26n.yaml", "openvino"),
        ("yolov8n-rtdetr.yaml", "onnx"),
    ],
)
def test_every_family_gives_the_boxes_of_torch(make_weights: Make, config: str, backend: str) -> None:
    weights = make_weights(config)
    reference = open_detector(settings_for(weights, "torch"))
    detector = open_detector(settings_for(weights, backend))
    assert detector.info.backend == backend
    for name in ("sha256", "labels", "stride", "family", "precision", "device", "batch_size"):
        assert getattr(detector.info, name) == getattr(reference.info, name), name
    expected, found = boxes_of(reference, pictures(), 0.05), boxes_of(detector, pictures(), 0.05)
    agreement = compare_boxes(expected, found, score=0.06)
    assert agreement.boxes > 40
    # Random weights give all of RT-DETR's queries one score: which of the equal ones are chosen is chance.
    assert agreement.share >= (0.98 if "rtdetr" in config else 0.999), agreement
    assert min(len(e) for e in expected) > 5
    reference.close()
    detector.close()


@pytest.mark.parametrize("backend", EXPORTED)
def test_boxes_depend_on_nothing_but_the_image(make_weights: Make, backend: str) -> None:
    weights, images = make_weights("yolo11n.yaml"), pictures()
    detector = open_detector(settings_for(weights, backend))
    expected = boxes_of(detector, images, 0.05)
    assert identical(boxes_of(detector, images, 0.05, 1), expected)
    assert identical(boxes_of(detector, images[::-1], 0.05, 3)[::-1], expected)
    twin = detector.copy()
    detector.close()
    assert identical(boxes_of(twin, images, 0.05), expected)
    for shared in ({"copies": 1, "threads": 2}, {"copies": 3, "threads": 1}, {"batch_size": 32}):
        other = open_detector(settings_for(weights, backend, **shared))
        again = boxes_of(other, images * 3, 0.05)
        assert identical(again[:4], again[4:8])
        assert compare_boxes(expected, again[:4], score=0.06).share == 1.0, shared
        other.close()
    with pytest.raises(ValueError, match="closed"):
        boxes_of(detector, images, 0.05)


@pytest.mark.parametrize("backend", ["torch", *EXPORTED])
def test_another_batch_size_is_taken_without_loading_again(make_weights: Make, backend: str) -> None:
    detector, images = open_detector(settings_for(make_weights("yolo11n.yaml"), backend)), pictures() * 3
    expected = boxes_of(detector, images, 0.05)
    for size in (1, 12, 4):
        detector.use_batch_size(size)
        assert detector.info.batch_size == detector.copy().info.batch_size == size
        agreement = compare_boxes(expected, boxes_of(detector, images, 0.05, size), score=0.06)
        assert agreement.share >= 0.999
    for size in (0, -1):
        with pytest.raises(ValueError, match="1"):
            detector.use_batch_size(size)
    detector.close()


def test_an_engine_takes_fewer_images_than_it_was_built_for_and_never_more(
    make_weights: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = open_detector(settings_for(make_weights("yolo11n.yaml"), "onnx"))
    facts = replace(open_exported(made.info.path).facts, backend="tensorrt", batch=8)
    file = tmp_path / "model.engine"
    file.write_bytes(b"x")
    facts = replace(facts, files={"model.engine": sha256_of(file)})
    (tmp_path / "model.json").write_text(facts.to_json())
    monkeypatch.setattr(choose, "_installed", lambda _: True)
    monkeypatch.setattr(tensorrt_backend, "choose_cuda", lambda _: 0)
    built: list[tuple[Path, int, int]] = []
    monkeypatch.setattr(tensorrt_backend, "TensorRtNetwork", lambda *args: built.append(args) or FakeEngine())
    for wanted, batch in (("auto", 8), (3, 3), (8, 8)):
        more = {"device": "cuda:0", "batch_size": wanted}
        detector = open_detector(settings_for(tmp_path, "tensorrt", **more))
        assert detector.info.batch_size == batch and built[-1] == (file, 0, batch)
    detector.use_batch_size(2)
    assert FakeEngine.parts[-1] == 2
    with pytest.raises(ValueError, match="1 to 8"):
        detector.use_batch_size(9)
    with pytest.raises(ConfigError, match=r"at most 8 images.*asks for 9.*--batch-size 9"):
        open_detector(settings_for(tmp_path, "tensorrt", device="cuda:0", batch_size=9))


class FakeEngine:
    """Stands for a TensorRT engine."""

    parts: ClassVar[list[int]] = []

    def use_part(self, part: int) -> None:
        self.parts.append(part)


def test_a_backend_that_is_not_installed_is_named_with_what_installs_it(
    make_weights: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, installed = make_weights("yolo11n.yaml"), choose._installed
    exported = open_detector(settings_for(weights, "openvino")).info.path
    for backend, package, extra in (
        ("openvino", "openvino", "cpu"),
        ("onnx", "onnxruntime", "onnx"),
        ("tensorrt", "tensorrt", "tensorrt"),
    ):
        monkeypatch.setattr(choose, "_installed", lambda name, gone=package: name != gone and installed(name))
        with pytest.raises(ModelError, match=rf"{package}: pip install 'perception_batch\[{extra}\]'"):
            open_detector(settings_for(weights, backend))
        if backend == "openvino":
            with pytest.raises(ModelError, match=r"pip install 'perception_batch\[cpu\]'"):
                open_detector(settings_for(exported, "auto"))


@pytest.mark.parametrize("backend", EXPORTED)
def test_wrong_calls_are_refused(make_weights: Make, backend: str) -> None:
    detector = open_detector(settings_for(make_weights("yolo11n.yaml"), backend))
    view = detector.view((96, 160))
    images = np.zeros((5, *view.input_hw, 3), np.uint8)
    with pytest.raises(ValueError, match="at most 4"):
        detector.detect(images, [view] * 5, [0.1] * 5)
    with pytest.raises(ValueError, match="size"):
        detector.detect(images[:1], [detector.view((160, 96))], [0.1])
    assert detector.detect(images[:0], [], []) == []
    with pytest.raises(ConfigError, match="roi_px"):
        detector.view((100, 100), roi_px=(50, 50, 200, 60))


def test_auto_takes_the_fastest_and_says_so(
    make_weights: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    weights = make_weights("yolo11n.yaml")
    real = choose._installed
    chosen = {}
    for absent in ((), ("openvino",), ("openvino", "onnxruntime")):
        monkeypatch.setattr(
            choose, "_installed", lambda name, absent=absent: name not in absent and real(name)
        )
        with caplog.at_level(logging.INFO):
            detector = open_detector(settings_for(weights, "auto"))
        chosen[absent] = detector.info.backend
        assert f"detecting with {detector.info.backend} in fp32 on cpu" in caplog.text
        detector.close()
    assert list(chosen.values()) == ["openvino", "onnx", "torch"]
    for backend, extra in (("openvino", "cpu"), ("onnx", "onnx"), ("tensorrt", "tensorrt")):
        monkeypatch.setattr(choose, "_installed", lambda name: False)
        with pytest.raises(ModelError, match=rf"pip install 'perception_batch\[{extra}\]'"):
            open_detector(settings_for(weights, backend))
    monkeypatch.setattr(choose, "_installed", lambda name: name == "openvino")
    assert open_detector(settings_for(weights, "auto")).info.backend == "openvino"  # from the cache
    with pytest.raises(ModelError, match="torch, torchvision, ultralytics"):
        open_detector(settings_for(weights, "torch"))


def test_auto_goes_on_where_an_export_fails(
    make_weights: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from perception_batch.detect import export

    def fail(*_: object) -> None:
        raise RuntimeError("unsupported operation aten::frobnicate")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(export, "_to_openvino", fail)
    monkeypatch.setattr(export, "_to_onnx", fail)
    weights = make_weights("yolo11n.yaml")
    detector = open_detector(settings_for(weights, "auto"))
    assert detector.info.backend == "torch"
    assert caplog.text.count("aten::frobnicate") == 2
    with pytest.raises(ModelError, match=r"cannot be exported to openvino.*frobnicate.*detect.backend=torch"):
        open_detector(settings_for(weights, "openvino"))
    assert not list((tmp_path / "perception_batch/exports").iterdir()), "nothing half made stays"
    monkeypatch.undo()


def test_an_export_that_gives_other_scores_is_refused(
    make_weights: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from perception_batch.detect import export

    class Wrong(export._Whole):
        def forward(self, images: Any) -> Any:
            return super().forward(images) * 1.01

    def convert(network: Any, *rest: Any) -> None:
        to_onnx(Wrong(network.network, network.dtype).eval(), *rest)

    to_onnx = export._to_onnx
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(export, "_to_onnx", convert)
    with pytest.raises(ModelError, match="gives other scores than PyTorch"):
        open_detector(settings_for(make_weights("yolo11n.yaml"), "onnx"))


def test_exports_are_made_once_and_again_for_other_versions(make_weights: Make) -> None:
    weights = make_weights("yolo11n.yaml")
    first = open_detector(settings_for(weights, "onnx")).info
    assert (
        open_detector(settings_for(weights, "onnx")).info.path.stat().st_mtime_ns
        == first.path.stat().st_mtime_ns
    )
    beside = first.path.with_suffix(".json")
    text = beside.read_text()
    facts = json.loads(text)

    def cached() -> bool:
        return find_cached(weights, first.sha256, "onnx", "fp32", 160) is not None

    try:
        for key, value, stays in (("torch", "0.1", False), ("no-such-package", "0.1", True)):
            beside.write_text(json.dumps({**facts, "versions": {**facts["versions"], key: value}}))
            assert cached() == stays, key
        beside.write_text(json.dumps({**facts, "sha256": "0" * 64}))
        assert not cached()
        beside.write_text("damaged")
        assert not cached()
    finally:
        beside.write_text(text)
    assert cached()


def test_forms_that_need_no_export(
    make_weights: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = make_weights("yolo11n.yaml")
    open_detector(settings_for(weights, "openvino"))
    forms = available_forms(settings_for(weights, "auto"), weights)
    assert forms[0] == ("torch", "fp32")
    assert ("openvino", "fp32") in forms
    assert ("openvino", "int8") not in forms
    path = open_detector(settings_for(weights, "openvino")).info.path
    of_export = available_forms(DetectConfig(), path.parent)
    assert of_export[0] == ("openvino", "fp32")
    assert {precision for _, precision in of_export} <= {"fp32", "bf16"}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert available_forms(settings_for(weights, "auto"), weights) == (("torch", "fp32"),)


def test_contradictions_are_said(make_weights: Make, tmp_path: Path) -> None:
    weights = make_weights("yolo11n.yaml")
    for backend, more, words in (
        ("openvino", {"device": "cuda:0"}, "OpenVINO runs on the CPU"),
        ("openvino", {"precision": "int8"}, "perception-batch export .*--precision int8 --calibrate LOG"),
        ("onnx", {"precision": "fp16"}, "needs a CUDA device"),
        ("torch", {"precision": "int8"}, "int8 is a matter of exported models"),
        ("auto", {"precision": "int8"}, "perception-batch export"),
        ("auto", {"sha256": "0" * 64}, "not the weights that were meant"),
    ):
        with pytest.raises((ConfigError, ModelError), match=words):
            open_detector(settings_for(weights, backend, **more))
    made = open_detector(settings_for(weights, "openvino"))
    folder = shutil.copytree(made.info.path.parent, tmp_path / "copied")
    for backend, more, words in (
        ("onnx", {}, "is a model for openvino"),
        ("auto", {"precision": "int8"}, "was exported in fp32"),
        ("auto", {"sha256": "0" * 64}, "not the weights that were meant"),
    ):
        with pytest.raises((ConfigError, ModelError), match=words):
            open_detector(settings_for(folder, backend, **more))
    assert (
        open_detector(settings_for(folder, "auto", sha256=made.info.sha256)).info.sha256 == made.info.sha256
    )
    assert open_detector(settings_for(folder / "model.xml", "openvino")).info.backend == "openvino"


def test_a_model_built_for_one_size_takes_what_fits_into_it(make_weights: Make) -> None:
    weights = make_weights("yolov8n-rtdetr.yaml")
    detector = open_detector(settings_for(weights, "onnx"))
    assert detector.view((188, 621)).input_hw == (160, 160)
    with pytest.raises(ConfigError, match="takes 160x160 only"):
        detector.view((188, 621), image_size=320)


def test_devices_are_counted_by_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "count_cuda", lambda: 2)
    assert [cuda.choose_cuda(w) for w in ("cpu", "auto", "cuda", "cuda:1")] == [None, 0, 0, 1]
    with pytest.raises(ModelError, match="cuda:7 is not there; this machine has: cpu, cuda:0, cuda:1"):
        cuda.choose_cuda("cuda:7")
    monkeypatch.undo()
    assert cuda.count_cuda() >= 0


@pytest.mark.real
def test_real_images_give_the_boxes_of_torch(
    recordings: Path, weights: Path, read_images: Callable[..., tuple[np.ndarray, ...]]
) -> None:
    """Promise 1c: of boxes with at least `detect.score`, 99.9 % agree within 1e-3 and half a pixel."""
    sources = {"ddad_surround": 1, "nuscenes_sample.bag": 1, "nuscenes_n008": 1, "kitti_0926": 4}
    images = [image for name, every in sources.items() for image in read_images(recordings / name, every)]
    assert len(images) == 55
    reference = open_detector(DetectConfig(model=str(weights), backend="torch", device="cpu"))
    expected = boxes_of(reference, images, 0.05)
    reference.close()
    for backend in EXPORTED:
        detector = open_detector(
            DetectConfig(model=str(weights), backend=backend, device="cpu", batch_size=16)
        )
        found = boxes_of(detector, images, 0.05)
        agreement = compare_boxes(expected, found, score=0.25)
        assert agreement.boxes > 400
        assert agreement.share >= 0.999, (backend, agreement)
        assert identical(boxes_of(detector, images[-7:], 0.05, 1), found[-7:])
        detector.close()


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["onnx", "tensorrt"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_cuda_backends_give_the_boxes_of_torch(make_weights: Make, backend: str, precision: str) -> None:
    pytest.importorskip(choose.RUNTIMES[backend])  # type: ignore[index]
    weights = make_weights("yolo11n.yaml")
    reference = open_detector(settings_for(weights, "torch", device="cpu"))
    if backend == "tensorrt":
        from perception_batch.detect.export import ExportRequest, export_model

        export_model(ExportRequest(weights, "tensorrt", precision, 160))  # type: ignore[arg-type]
    detector = open_detector(settings_for(weights, backend, device="cuda:0", precision=precision))
    expected, found = boxes_of(reference, pictures(), 0.05), boxes_of(detector, pictures(), 0.05)
    fp16 = precision == "fp16"
    agreement = compare_boxes(
        expected, found, score=0.12, most_score=0.02 if fp16 else 1e-3, most_px=4.0 if fp16 else 0.5
    )
    assert agreement.share >= (0.9 if fp16 else 0.99), agreement
    detector.close()
