"""Pictures with boxes for the built-in detector: from drawn drives, or from a YOLO training set, packed for reading fast."""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CLASSES = ("person", "bicycle", "car", "motorcycle", "bus", "truck", "traffic light")
"""All that the simulator draws; COCO's names."""
IGNORED = -1
"""Class number of a place that is taught neither as an object nor as background."""
MIN_HEIGHT_PX = 12.0
"""Lower boxes are ignored."""
MIN_VISIBLE = 0.3
"""Boxes of which less is visible are ignored."""
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Encoded pictures with the boxes that they show."""

    data: tuple[bytes, ...]
    """Image files."""
    first_row: npt.NDArray[np.int64]
    """(N + 1,) rows of picture i are ``first_row[i]`` to ``first_row[i + 1]``."""
    box_px: npt.NDArray[np.float32]
    """(M, 4) left, top, right, bottom."""
    class_index: npt.NDArray[np.int64]
    """(M,) place in `CLASSES`, or `IGNORED`."""

    def __len__(self) -> int:
        return len(self.data)

    def rows(self, picture: int) -> slice:
        """Where its boxes stand."""
        return slice(int(self.first_row[picture]), int(self.first_row[picture + 1]))

    def counts(self) -> dict[str, int]:
        """Boxes by class."""
        return {name: int((self.class_index == k).sum()) for k, name in enumerate(CLASSES)}


def gather(
    data: Sequence[bytes], boxes: Sequence[npt.NDArray[Any]], classes: Sequence[npt.NDArray[Any]]
) -> Pictures:
    """One `Pictures` of lists by picture."""
    first_row = np.concatenate([[0], np.cumsum([len(b) for b in boxes])]).astype(np.int64)
    return Pictures(
        tuple(data),
        first_row,
        np.concatenate([np.zeros((0, 4)), *boxes]).astype(np.float32),
        np.concatenate([np.zeros(0), *classes]).astype(np.int64),
    )


def decode(data: bytes) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB."""
    import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("a picture of the training set cannot be decoded")
    return np.ascontiguousarray(image[:, :, ::-1])


def truth_of(
    folder: Path, min_height_px: float, min_visible: float
) -> dict[tuple[str, int], tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Boxes (left, top, right, bottom, px) and class numbers by (camera, stamp) of a drawn drive's truth."""
    import pyarrow.parquet as pq

    corners = ["visible_x1", "visible_y1", "visible_x2", "visible_y2"]
    table = pq.read_table(
        folder / "boxes.parquet", columns=["camera", "stamp_ns", "label", *corners, "visible_fraction"]
    )
    px = np.stack([table.column(name).to_numpy() for name in corners], axis=1).astype(np.float64)
    visible = table.column("visible_fraction").to_numpy()
    number = {name: k for k, name in enumerate(CLASSES)}
    kind = np.array([number.get(label, IGNORED) for label in table.column("label").to_pylist()], np.int64)
    kind[(px[:, 3] - px[:, 1] < min_height_px) | (visible < min_visible)] = IGNORED
    stamps = table.column("stamp_ns").to_pylist()
    by: dict[tuple[str, int], list[int]] = {}
    for row, (camera, stamp) in enumerate(zip(table.column("camera").to_pylist(), stamps, strict=True)):
        if np.isfinite(px[row, 0]):
            by.setdefault((camera, stamp), []).append(row)
    return {key: (px[rows], kind[rows]) for key, rows in by.items()}


def of_set(folder: Path) -> set[tuple[str, str, int]]:
    """Drive, camera and stamp of every picture of a training set that ``perception-batch labels`` wrote."""
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "images.parquet", columns=["drive", "camera", "frame_stamp_ns"])
    return set(zip(*(table.column(name).to_pylist() for name in table.column_names), strict=True))


def from_drives(
    drives: Sequence[Path],
    min_height_px: float = MIN_HEIGHT_PX,
    min_visible: float = MIN_VISIBLE,
    only: Container[tuple[str, str, int]] | None = None,
) -> Pictures:
    """Pictures of drawn drives, with their truth; smaller and less visible boxes are `IGNORED`.

    Args:
        drives: their folders.
        min_height_px: see above.
        min_visible: see above.
        only: drive, camera and stamp of those wanted; None: all.
    """
    from perception_batch.api import open_log
    from perception_batch.types import EncodedFrame, StillPayload

    data: list[bytes] = []
    boxes, classes = [], []
    nothing = np.zeros((0, 4)), np.zeros(0, np.int64)
    for drive in drives:
        truth = truth_of(drive / "truth", min_height_px, min_visible)
        with open_log(drive / "drive.mcap") as log:
            for frame in log.stream(log.select(None)):
                if isinstance(frame, EncodedFrame) and isinstance(frame.payload, StillPayload):
                    if only is not None and (drive.name, frame.camera, frame.stamp_ns) not in only:
                        continue
                    data.append(bytes(frame.payload.data))
                    px, kind = truth.get((frame.camera, frame.stamp_ns), nothing)
                    boxes.append(px)
                    classes.append(kind)
    return gather(data, boxes, classes)


def from_yolo_set(folder: Path, split: str = "train") -> Pictures:
    """The pictures of a training set that ``perception-batch labels --format yolo`` wrote, with its places to ignore."""
    import yaml

    names = yaml.safe_load((folder / "data.yaml").read_text())["names"]
    order = list(names.values()) if isinstance(names, dict) else list(names)
    number = np.array([CLASSES.index(name) if name in CLASSES else IGNORED for name in order], np.int64)
    doubtful = json.loads((folder / "ignored.json").read_text())["images"]
    data, boxes, classes = [], [], []
    for path in sorted((folder / "images" / split).iterdir()):
        if path.suffix.lower() not in IMAGE_ENDINGS:
            continue
        content = path.read_bytes()
        labels = folder / "labels" / split / f"{path.stem}.txt"
        rows = np.loadtxt(labels, ndmin=2) if labels.is_file() and labels.stat().st_size else np.zeros((0, 5))
        high, wide = decode(content).shape[:2]
        size = np.array([wide, high])
        middle, half = rows[:, 1:3] * size, rows[:, 3:5] * size / 2
        ignored = [box["box_px"] for box in doubtful.get(f"images/{split}/{path.name}", ())]
        data.append(content)
        boxes.append(
            np.concatenate(
                [np.concatenate([middle - half, middle + half], axis=1), np.reshape(ignored, (-1, 4))]
            )
        )
        classes.append(np.concatenate([number[rows[:, 0].astype(np.int64)], np.full(len(ignored), IGNORED)]))
    return gather(data, boxes, classes)


class Views:
    """Draws training views: windows of the pictures, scaled, mirrored and recoloured, with the boxes in them.

    Most windows lie about an object whose class was drawn by lot with the power 0.25 of its frequency, so that the rare
    classes are not forgotten and little time goes to empty walls.
    """

    def __init__(self, pictures: Pictures) -> None:
        self._pictures = pictures
        self._owner = np.repeat(np.arange(len(pictures)), np.diff(pictures.first_row))
        self._of_class = [np.flatnonzero(pictures.class_index == k) for k in range(len(CLASSES))]
        weight = np.array([len(rows) for rows in self._of_class]) ** 0.25
        self._class_share = weight / weight.sum()

    def draw(
        self, rng: np.random.Generator, size_wh: tuple[int, int], *, whole: bool
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """One view: (H, W, 3) RGB, boxes in its pixels, class numbers.

        Args:
            rng: the lot.
            size_wh: of the view.
            whole: the picture at about its own size, as the detector sees it later, instead of a window.
        """
        import cv2

        pictures = self._pictures
        target = -1
        if rng.random() < 0.75:
            rows = self._of_class[int(rng.choice(len(CLASSES), p=self._class_share))]
            target = int(rows[rng.integers(len(rows))])
        picture = int(self._owner[target]) if target >= 0 else int(rng.integers(len(pictures)))
        image = decode(pictures.data[picture])
        high, wide = image.shape[:2]
        box, kind = pictures.box_px[pictures.rows(picture)], pictures.class_index[pictures.rows(picture)]
        scale = float(
            np.exp(rng.uniform(np.log(0.92), np.log(1.1)) if whole else _scale(rng, target, pictures))
        )
        window = np.array(size_wh) / scale
        middle = np.array([wide, high]) / 2
        if not whole:
            if target >= 0:
                left, top, right, bottom = pictures.box_px[target]
                middle = np.array([left + right, top + bottom]) / 2 + rng.uniform(-0.4, 0.4, 2) * window
            else:
                middle = rng.uniform(0, 1, 2) * [wide, high]
            # Inside the picture where it is larger than the window.
            for axis, length in enumerate((wide, high)):
                slack = window[axis] / 2
                middle[axis] = (
                    np.clip(middle[axis], slack, length - slack) if 2 * slack < length else length / 2
                )
        else:
            middle = middle + rng.uniform(-10, 10, 2)
        mirrored = rng.random() < 0.5
        # Pixel centres lie at halves: matrix for cv2's convention, in which they are whole numbers.
        ax = -scale if mirrored else scale
        shift = np.array([size_wh[0] / 2 - ax * middle[0], size_wh[1] / 2 - scale * middle[1]])
        matrix = np.array([[ax, 0, shift[0] + (ax - 1) / 2], [0, scale, shift[1] + (scale - 1) / 2]])
        view = cv2.warpAffine(
            image,
            matrix,
            size_wh,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(114,) * 3,
        )
        view = _recolor(rng, np.asarray(view, np.uint8))
        return (view, *_seen(box, kind, ax, scale, shift, size_wh))


def _scale(rng: np.random.Generator, target: int, pictures: Pictures) -> float:
    """Logarithm of a window's scale: about one, smaller about objects that would not fit in."""
    drawn = float(rng.uniform(np.log(0.6), np.log(1.3)))
    if target >= 0 and rng.random() < 0.7:
        left, top, right, bottom = pictures.box_px[target]
        drawn = min(drawn, float(np.log(min(340 / (right - left), 230 / (bottom - top)))))
    return max(drawn, float(np.log(0.55)))


def _recolor(rng: np.random.Generator, view: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Brightness, contrast and the balance of the channels, by a table."""
    import cv2

    gain = np.exp(rng.normal(0, 0.12)) * np.exp(rng.normal(0, 0.05, 3))
    gamma = np.exp(rng.normal(0, 0.12))
    ramp = (np.arange(256) / 255.0) ** gamma
    table = np.clip(ramp[:, None] * gain[None, :] * 255.0 + rng.normal(0, 6), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(view, table.reshape(1, 256, 3)), np.uint8)


def _seen(
    box: npt.NDArray[np.float32],
    kind: npt.NDArray[np.int64],
    ax: float,
    scale: float,
    shift: npt.NDArray[np.float64],
    size_wh: tuple[int, int],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Boxes as they lie in a view; what is mostly outside or has become too small is ignored."""
    x = np.sort(box[:, [0, 2]] * ax + shift[0], axis=1)
    y = box[:, [1, 3]] * scale + shift[1]
    whole = np.maximum((x[:, 1] - x[:, 0]) * (y[:, 1] - y[:, 0]), 1e-6)
    x, y = np.clip(x, 0, size_wh[0]), np.clip(y, 0, size_wh[1])
    width, height = x[:, 1] - x[:, 0], y[:, 1] - y[:, 0]
    inside = (width > 1) & (height > 1)
    kind = kind.copy()
    kind[(width * height < 0.3 * whole) | (height < 8) | (width < 3)] = IGNORED
    out = np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1).astype(np.float32)
    return out[inside], kind[inside]
