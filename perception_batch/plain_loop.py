"""The loops that one would write without this package: the yardsticks of the benchmarks. Nothing of it is used here.

    python -m perception_batch.plain_loop LOG [LOG ...] --model yolo11n.pt --out OUT [--no-video] [--images N] [--fp32]
    python -m perception_batch.plain_loop --export yolo11n.pt FOLDER

*Plain*: rosbags reads the messages in log order, OpenCV decodes them, `YOLO.predict` gets the images of one timestep (one of
each camera, as they arrive), the boxes go to a JSON file, boxes and mosaic to `plain.mp4` by OpenCV. It is written with
some care (boxes are drawn on the small tiles, which is cheaper than Ultralytics' own `plot()` of the whole
images), but one thing is done after the other.

*Informed*: the same by one who has read Ultralytics' guide for CPUs. The model is Ultralytics' own dynamic OpenVINO export, which
``--export`` writes to ``FOLDER/<name>_openvino_model`` once, before anything is measured. OpenVINO then computes in
bfloat16 where the processor does that faster (Intel's AMX), unasked; ``--fp32`` forbids it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TILE_WIDTH_PX = 640
COLUMNS = 3


# Ultralytics asks name servers at import and writes its settings into the home folder; neither is to be measured.
QUIET = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}


def timesteps(*logs: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Log time, number of cameras, and the (H, W, 3) BGR images by topic, of each timestep.

    A timestep ends when each camera has given an image, or when one gives its second.
    """
    import cv2
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    with AnyReader(list(logs), default_typestore=get_typestore(Stores.LATEST)) as reader:
        cameras = [c for c in reader.connections if c.msgtype == "sensor_msgs/msg/CompressedImage"]
        n = len({camera.topic for camera in cameras})
        images: dict[str, Any] = {}
        last_ns = 0
        for connection, log_ns, raw in reader.messages(connections=cameras):
            if connection.topic in images:
                yield last_ns, n, images
                images = {}
            message: Any = reader.deserialize(raw, connection.msgtype)
            images[connection.topic] = cv2.imdecode(message.data, cv2.IMREAD_COLOR)
            last_ns = log_ns
            if len(images) == n:
                yield last_ns, n, images
                images = {}
        if images:
            yield last_ns, n, images


def draw_mosaic(images: dict[str, Any], results: list[Any], rows: int) -> Any:
    """(H, W, 3) BGR: a tile for each camera, with its boxes."""
    import cv2
    import numpy as np

    height, width = next(iter(images.values())).shape[:2]
    tile_height = TILE_WIDTH_PX * height // width // 2 * 2
    mosaic = np.zeros((rows * tile_height, COLUMNS * TILE_WIDTH_PX, 3), np.uint8)
    # By name, so that a camera keeps its place.
    for i, (topic, result) in enumerate(sorted(zip(images, results, strict=True), key=lambda pair: pair[0])):
        image = images[topic]
        tile = cv2.resize(image, (TILE_WIDTH_PX, tile_height))
        scale = (TILE_WIDTH_PX / image.shape[1], tile_height / image.shape[0])
        for box, score, label in zip(
            result.boxes.xyxy.tolist(), result.boxes.conf.tolist(), result.boxes.cls.tolist(), strict=True
        ):
            x0, y0, x1, y1 = (round(value * scale[k % 2]) for k, value in enumerate(box))
            cv2.rectangle(tile, (x0, y0), (x1, y1), (0, 200, 0), 2)
            text = f"{result.names[int(label)]} {score:.2f}"
            cv2.putText(tile, text, (x0, y0 - 3), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 200, 0), 1)
        y, x = i // COLUMNS * tile_height, i % COLUMNS * TILE_WIDTH_PX
        mosaic[y : y + tile_height, x : x + TILE_WIDTH_PX] = tile
    return mosaic


def export(weights: Path, folder: Path) -> Path:
    """Ultralytics' own OpenVINO export, which it writes beside the weights: so beside a copy of them."""
    from ultralytics import YOLO

    folder.mkdir(parents=True, exist_ok=True)
    copied = folder / weights.name
    shutil.copyfile(weights, copied)
    return Path(YOLO(str(copied)).export(format="openvino", dynamic=True, verbose=False))


def forbid_bfloat16() -> None:
    """Let OpenVINO compute in the precision of the weights, which Ultralytics has no word for."""
    openvino: Any = importlib.import_module("openvino")
    compile_model = openvino.Core.compile_model

    def exactly(core: Any, model: Any, device_name: str, config: dict[str, Any]) -> Any:
        return compile_model(core, model, device_name, {**config, "INFERENCE_PRECISION_HINT": "f32"})

    openvino.Core.compile_model = exactly


def run(
    logs: list[Path],
    weights: Path,
    out: Path,
    *,
    video: bool,
    rate_hz: float,
    images_wanted: int = 0,
    image_size: int = 640,
) -> dict[str, float]:
    """Process the log; counts, and the seconds of the steady part (all but the first timestep).

    Args:
        logs: what rosbags opens, of one drive.
        weights: what `YOLO` opens.
        out: folder of the results.
        video: also draw and encode.
        rate_hz: of the video.
        images_wanted: stop after the timestep that reaches so many; 0: all.
        image_size: long side of the network's input, px.
    """
    import cv2
    from ultralytics import YOLO

    model = YOLO(str(weights), task="detect")
    out.mkdir(parents=True, exist_ok=True)
    writer = None
    steps = images_done = boxes = 0
    first_images, first_at = 0, 0.0
    with (out / "plain.jsonl").open("w", encoding="utf-8") as lines:
        for log_ns, cameras, images in timesteps(*logs):
            results = model.predict(list(images.values()), imgsz=image_size, conf=0.25, verbose=False)
            found = {topic: result.boxes.data.tolist() for topic, result in zip(images, results, strict=True)}
            lines.write(json.dumps({"log_ns": log_ns, "boxes": found}) + "\n")
            if video:
                picture = draw_mosaic(images, results, math.ceil(cameras / COLUMNS))
                if writer is None:
                    size = (picture.shape[1], picture.shape[0])
                    fourcc = cv2.VideoWriter.fourcc(*"mp4v")
                    writer = cv2.VideoWriter(str(out / "plain.mp4"), fourcc, rate_hz, size)
                writer.write(picture)
            steps += 1
            images_done += len(images)
            boxes += sum(map(len, found.values()))
            if steps == 1:
                first_images, first_at = images_done, time.perf_counter()
            if 0 < images_wanted <= images_done:
                break
    if writer is not None:
        writer.release()
    return {
        "images": images_done,
        "timesteps": steps,
        "boxes": boxes,
        "steady_images": images_done - first_images,
        "steady_s": time.perf_counter() - first_at,
    }


def main(argv: list[str] | None = None) -> int:
    """Run, and print one line of JSON; or export, and print the folder."""
    words = sys.argv[1:] if argv is None else argv
    os.environ |= QUIET
    if words[:1] == ["--export"] and len(words) == 3:
        sys.stdout.write(f"{export(Path(words[1]), Path(words[2]))}\n")
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log", nargs="+", type=Path)
    parser.add_argument("--model", type=Path, required=True, metavar="WEIGHTS")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--no-video", action="store_true")
    parser.add_argument("--images", type=int, default=0, metavar="N", help="stop after so many (0: all)")
    parser.add_argument("--image-size", type=int, default=640, metavar="PX", help="long side (640)")
    parser.add_argument("--fp32", action="store_true", help="an OpenVINO model in exactly that")
    parser.add_argument(
        "--rate-hz", type=float, default=10.0, help="of the video: OpenCV knows no real times"
    )
    args = parser.parse_args(words)
    if args.fp32:
        forbid_bfloat16()
    found = run(
        args.log,
        args.model,
        args.out,
        video=not args.no_video,
        rate_hz=args.rate_hz,
        images_wanted=args.images,
        image_size=args.image_size,
    )
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
