"""Positions and merges on real recordings with truth, real boxes from real weights."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perception_batch.calibration import Camera, Intrinsics, Rig
from perception_batch.config import FuseConfig
from perception_batch.fusion import open_fuser
from perception_batch.geometry import SE3
from perception_batch.ontology import Ontology
from perception_batch.types import Detections


def read(path: Path) -> tuple[Rig, dict[int, dict[str, np.ndarray]]]:
    """Rig (the images are rectified) and, by stamp, the images of all cameras."""
    import cv2
    from rosbags.highlevel import AnyReader

    lenses: dict[str, tuple[str, Intrinsics]] = {}
    poses: dict[str, SE3] = {}
    images: dict[int, dict[str, np.ndarray]] = {}
    with AnyReader([path]) as reader:
        for connection, _, raw in reader.messages():
            if connection.topic == "/tf":
                continue
            message: Any = reader.deserialize(raw, connection.msgtype)
            camera = connection.topic.split("/")[1]
            if connection.topic == "/tf_static":
                for t in message.transforms:
                    q, v = t.transform.rotation, t.transform.translation
                    poses[t.child_frame_id] = SE3.from_quaternion([q.x, q.y, q.z, q.w], [v.x, v.y, v.z])
            elif connection.topic.endswith("camera_info"):
                k = message.K if hasattr(message, "K") else message.k
                lens = Intrinsics("pinhole", message.width, message.height, k[0], k[4], k[2], k[5])
                lenses[camera] = (message.header.frame_id, lens)
            else:
                stamp = message.header.stamp
                image = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
                images.setdefault(stamp.sec * 10**9 + stamp.nanosec, {})[camera] = image
    cameras = {n: Camera(n, lens, poses[frame], "camera_info+tf") for n, (frame, lens) in lenses.items()}
    return Rig("base_link", cameras, {}), images


@pytest.fixture(scope="session")
def yolo(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if not weights.is_file():
        pytest.skip(f"no weights at {weights}")
    os.environ.setdefault("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("yolo")))
    os.environ.setdefault("YOLO_OFFLINE", "true")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, not ours
        from ultralytics import YOLO

        return YOLO(str(weights))


def detect(model: Any, image: np.ndarray, size: int) -> Detections:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        boxes = model.predict(image, conf=0.05, imgsz=size, device="cpu", verbose=False)[0].boxes
    order = np.argsort(-boxes.conf.numpy(), kind="stable")
    return Detections(
        boxes.xyxy.numpy()[order].astype(np.float32),
        boxes.conf.numpy()[order].astype(np.float32),
        boxes.cls.numpy()[order].astype(np.int16),
    )


def run(path: Path, model: Any, size: int) -> list[dict[str, Any]]:
    """Timesteps as in `timesteps.jsonl`, their objects."""
    rig, images = read(path)
    fuser = open_fuser(rig, Ontology(), model.names, FuseConfig())
    poses = {n: c.base_SE3_camera for n, c in rig.cameras.items()}
    steps: list[dict[str, np.ndarray]] = []
    stamps: list[int] = []
    for stamp in sorted(images):  # cameras of one timestep are up to 50 ms apart
        if not stamps or stamp - stamps[-1] > 50_000_000:
            stamps.append(stamp)
            steps.append({})
        steps[-1].update(images[stamp])
    out = []
    for frames in steps:
        found = {camera: detect(model, image, size) for camera, image in sorted(frames.items())}
        hw = {camera: image.shape[:2] for camera, image in frames.items()}
        fusion = fuser.fuse(found, hw, poses)
        out.append(
            {
                "objects": [
                    {
                        "object": number,
                        "label": o.label,
                        "observations": [[v.camera, v.detection] for v in o.observations],
                        **({"position_m": o.position_m.tolist()} if o.has_position else {}),
                    }
                    for number, o in enumerate(fusion.objects)
                ],
            }
        )
    return out


@pytest.mark.real
def test_lorry_seen_by_two_cameras_is_one_object(recordings: Path, yolo: Any) -> None:
    (step,) = run(recordings / "nuscenes_sample.bag", yolo, 1280)
    trucks = [o for o in step["objects"] if o["label"] == "truck"]
    assert [[camera for camera, _ in o["observations"]] for o in trucks] == [["cam_front", "cam_front_left"]]
    assert np.linalg.norm(np.subtract(trucks[0]["position_m"][:2], [16.2, 4.5])) < 3
