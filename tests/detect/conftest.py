"""The real recordings' images, read the short way: rosbags and OpenCV, nothing of the package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

ReadImages = Callable[..., tuple[np.ndarray, ...]]


def _read_images(path: Path, every: int = 1) -> tuple[np.ndarray, ...]:
    out = []
    with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
        cameras = [c for c in reader.connections if c.msgtype.endswith("CompressedImage")]
        for i, (connection, _, raw) in enumerate(reader.messages(cameras)):
            if i % every == 0:
                message = reader.deserialize(raw, connection.msgtype)
                bgr = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
                out.append(np.ascontiguousarray(bgr[:, :, ::-1]))
    return tuple(out)


@pytest.fixture(scope="session")
def read_images() -> ReadImages:
    """Function: RGB images of all compressed camera topics of a log, each `every`-th."""
    return _read_images


def _make_weights(folder: Path, config: str, classes: int = 4) -> Path:
    """Write a small model with random weights whose scores spread widely, as Ultralytics saves one."""
    import torch

    from perception_batch.detect import ultralytics_import

    path = folder / f"{Path(config).stem}.pt"
    with ultralytics_import._imported():
        from ultralytics.nn import tasks

        torch.manual_seed(7)
        kinds = {"rtdetr": tasks.RTDETRDetectionModel, "-cls": tasks.ClassificationModel}
        kinds |= {"-seg": tasks.SegmentationModel, "-obb": tasks.OBBModel, "-pose": tasks.PoseModel}
        kind = next((k for mark, k in kinds.items() if mark in config), tasks.DetectionModel)
        model = kind(config, nc=classes, verbose=False)
        if "yolo26" in config:
            model.end2end = (
                True  # chosen when the weights are published; the description alone does not do it
            )
        model.names = {i: f"thing {i}" for i in range(classes)}
        head = model.model[-1]
        lasts = [b[-1] for name in ("cv3", "one2one_cv3") for b in getattr(head, name, None) or ()]
        lasts += list(getattr(head, "dec_score_head", ()))
        for last in lasts:
            if isinstance(last, torch.nn.Conv2d | torch.nn.Linear):
                torch.nn.init.normal_(last.weight, std=0.6 if isinstance(last, torch.nn.Conv2d) else 0.3)
                torch.nn.init.constant_(last.bias, -2.0)
        # Statistics of real input keep random activations from dying out layer by layer.
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 0.5
        if "rtdetr" not in config:
            with torch.no_grad():
                for _ in range(4):
                    model(torch.rand(4, 3, 128, 128))
        model.eval()
        model.args = {"task": model.task} if hasattr(model, "task") else {}
        task = (
            "classify"
            if "-cls" in config
            else next(
                (t for m, t in (("-seg", "segment"), ("-obb", "obb"), ("-pose", "pose")) if m in config),
                "detect",
            )
        )
        torch.save({"model": model.half(), "ema": None, "train_args": {"task": task}}, path)
    return path


@pytest.fixture(scope="session")
def make_weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Function: weights file of an Ultralytics model description such as ``yolov8n.yaml``."""
    folder = tmp_path_factory.mktemp("weights")
    made: dict[str, Path] = {}

    def make(config: str) -> Path:
        if config not in made:
            made[config] = _make_weights(folder, config)
        return made[config]

    return make
