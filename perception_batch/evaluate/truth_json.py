"""Truth in JSON: `frames[]` with `stamp_ns` and `objects[]`.

An object has `id`, `label`, and where known `center_base_link_m` and `boxes2d` (`[x1, y1, x2, y2]` px by camera).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, cast

import numpy as np

from perception_batch.errors import LogError, printable
from perception_batch.evaluate.truth import NO_CLASS, Classes, Truth, TruthFrame, TruthPicture

_LARGEST_BYTES = 512 << 20


def read_json(path: Path, classes: Classes) -> Truth:
    """Read one file.

    Raises:
        LogError: not JSON, or not of this form; names the frame and the object.
    """
    names: dict[str, int] = {}
    labels: list[str] = []
    unknown: dict[str, set[str]] = {}
    frames: list[TruthFrame] = []
    boxes: list[dict[str, list[tuple[int, int, list[float]]]]] = []
    seen_stamps: set[int] = set()
    for number, frame in _frames(path):
        where = f"frames[{number}]"
        stamp = frame.get("stamp_ns")
        if not isinstance(stamp, int) or isinstance(stamp, bool) or not 0 <= stamp < 1 << 63:
            raise LogError(path, f"{where}: stamp_ns must be an integer of nanoseconds, got {_short(stamp)}")
        if stamp in seen_stamps:
            raise LogError(path, f"{where}: stamp_ns {stamp} stands there twice")
        seen_stamps.add(stamp)
        ids: list[int] = []
        numbers: list[int] = []
        centers: list[list[float]] = []
        by_camera: dict[str, list[tuple[int, int, list[float]]]] = {}
        for index, item in enumerate(_list(path, where, "objects", frame)):
            place = f"{where}.objects[{index}]"
            if not isinstance(item, dict) or "id" not in item or not isinstance(item.get("label"), str):
                raise LogError(path, f"{place}: expected an object with `id` and `label`, got {_short(item)}")
            name, label = str(item["id"]), item["label"]
            if name not in names:
                names[name] = len(labels)
                labels.append(label)
            identity = names[name]
            if identity in ids:
                raise LogError(path, f"{place}: id {printable(name)} stands in this frame twice")
            of_class = classes.number(label)
            if of_class == NO_CLASS:
                unknown.setdefault(label, set()).add(name)
            ids.append(identity)
            numbers.append(of_class)
            center = item.get("center_base_link_m")
            centers.append(
                [math.nan] * 3 if center is None else _numbers(path, place, "center_base_link_m", center, 3)
            )
            views = item.get("boxes2d", {})
            if not isinstance(views, dict):
                raise LogError(path, f"{place}: boxes2d must map camera names to boxes, got {_short(views)}")
            for camera, box in views.items():
                corners = _numbers(path, place, f"boxes2d.{printable(camera)}", box, 4)
                if corners[2] <= corners[0] or corners[3] <= corners[1]:
                    raise LogError(path, f"{place}: boxes2d.{printable(camera)} {corners} has no area")
                by_camera.setdefault(camera, []).append((identity, of_class, corners))
        frames.append(
            TruthFrame(
                stamp,
                np.array(ids, np.int64),
                np.array(numbers, np.int64),
                np.array(centers, np.float64).reshape(-1, 3),
            )
        )
        boxes.append(by_camera)
    if not frames:
        raise LogError(path, "has no frames")
    cameras = sorted({camera for by_camera in boxes for camera in by_camera})
    order = sorted(range(len(frames)), key=lambda i: frames[i].stamp_ns)
    pictures = [
        # A camera that occurs in the file and has no box in a frame shows nothing there.
        _picture(row, camera, frames[i].stamp_ns, boxes[i].get(camera, []))
        for row, i in enumerate(order)
        for camera in cameras
    ]
    return Truth(
        path,
        tuple(frames[i] for i in order),
        tuple(pictures),
        tuple(names),
        tuple(labels),
        knows_pictures=False,
        unknown_labels={label: len(objects) for label, objects in unknown.items()},
    )


def _picture(
    frame: int, camera: str, stamp_ns: int, boxes: list[tuple[int, int, list[float]]]
) -> TruthPicture:
    return TruthPicture(
        frame,
        camera,
        stamp_ns,
        True,
        np.array([identity for identity, _, _ in boxes], np.int64),
        np.array([of_class for _, of_class, _ in boxes], np.int64),
        np.array([corners for _, _, corners in boxes], np.float64).reshape(-1, 4),
        np.ones(len(boxes)),
    )


def _frames(path: Path) -> list[tuple[int, dict[str, Any]]]:
    if path.stat().st_size > _LARGEST_BYTES:
        raise LogError(
            path, f"is larger than {_LARGEST_BYTES >> 20} MiB; truth of that size comes as a folder of tables"
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise LogError(path, f"is no JSON truth: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict) or not isinstance(data.get("frames"), list):
        raise LogError(path, "is no truth: expected an object with `frames`, a list")
    for number, frame in enumerate(data["frames"]):
        if not isinstance(frame, dict):
            raise LogError(path, f"frames[{number}]: expected an object, got {_short(frame)}")
    return list(enumerate(cast("list[dict[str, Any]]", data["frames"])))


def _list(path: Path, where: str, key: str, frame: dict[str, Any]) -> list[Any]:
    value = frame.get(key)
    if not isinstance(value, list):
        raise LogError(path, f"{where}: expected `{key}`, a list, got {_short(value)}")
    return value


def _numbers(path: Path, where: str, key: str, value: object, count: int) -> list[float]:
    if isinstance(value, list) and len(value) == count:
        good = [v for v in value if isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e9]
        if len(good) == count:
            return [float(v) for v in good]
    raise LogError(path, f"{where}: {key} must be {count} finite numbers, got {_short(value)}")


def _short(value: object) -> str:
    text = printable(repr(value))
    return text if len(text) <= 60 else text[:57] + "..."
