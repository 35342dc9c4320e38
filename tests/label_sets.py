"""Small training sets for the tests of the room `labels`: images with boxes, and the files of a whole set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from perception_batch.labels.formats import Format, open_writer
from perception_batch.labels.label_types import Band, LabelBox, LabelImage, Split

CLASSES = ("person", "car", "traffic light")


def label_box(
    box_px: tuple[float, float, float, float],
    class_index: int = 1,
    band: Band = "accepted",
    **changes: object,
) -> LabelBox:
    """A box of `CLASSES`."""
    made = LabelBox(
        box_px, class_index, CLASSES[class_index], band, 0.8, 0.9, False, 0, 7, {"car": 1.0}, False
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def label_image(
    name: str,
    boxes: Sequence[LabelBox] = (),
    split: Split = "train",
    size: tuple[int, int] = (64, 48),
    suffix: str = ".png",
) -> LabelImage:
    """An image of width and height `size`."""
    return LabelImage(
        name,
        suffix,
        split,
        f"group_{split}",
        "drive",
        "front",
        1_700_000_000_123_456_789,
        4,
        *size,
        tuple(boxes),
    )


def write_picture(path: Path, width: int, height: int, seed: int) -> None:
    """A picture of noise; JPEG or PNG by suffix; another seed, other bytes."""
    import cv2

    picture = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    ok, data = cv2.imencode(path.suffix, picture)
    assert ok
    path.write_bytes(data.tobytes())


def write_set(folder: Path, format_name: Format, images: Sequence[LabelImage], table: bool = True) -> None:
    """A whole set: pictures, labels, and ``images.parquet``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = open_writer(format_name, folder, CLASSES)
    rows = []
    for number, image in enumerate(images):
        path = writer.image_path(image)
        write_picture(path, image.width_px, image.height_px, number)
        writer.add(image)
        rows.append(
            {
                "name": image.name,
                "split": image.split,
                "group": image.group,
                "file": path.relative_to(folder).as_posix(),
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "width": image.width_px,
                "height": image.height_px,
                "drive": image.drive,
                "camera": image.camera,
                "frame_stamp_ns": image.frame_stamp_ns,
            }
        )
    writer.close()
    if table:
        pq.write_table(pa.Table.from_pylist(rows), folder / "images.parquet")


def few_images() -> list[LabelImage]:
    """Both splits, both bands, a negative."""
    return [
        label_image("a_front_1", [label_box((1, 2, 30.5, 40.25)), label_box((40, 5, 60, 20), 2)]),
        label_image("a_front_2", [label_box((0, 0, 64, 48), 0, "ignored"), label_box((3, 3, 9, 9), 0)]),
        label_image("a_front_3", suffix=".jpg"),
        label_image("b_front_1", [label_box((10, 10, 20, 30), 0)], "val"),
        label_image(
            "b_front_2", [label_box((10, 10, 20, 30), 1, score=None, recovered=True)], "val", suffix=".jpg"
        ),
    ]


@st.composite
def drawn_images(draw: st.DrawFn) -> list[LabelImage]:
    """Images of any size with boxes anywhere, down to a fiftieth of a pixel."""
    images = []
    for number in range(draw(st.integers(1, 4))):
        width, height = draw(st.integers(1, 65_535)), draw(st.integers(1, 65_535))
        boxes = []
        for _ in range(draw(st.integers(0, 5))):
            x1, y1 = draw(st.floats(0, width - 0.03)), draw(st.floats(0, height - 0.03))
            x2, y2 = draw(st.floats(x1 + 0.03, width)), draw(st.floats(y1 + 0.03, height))
            band: Band = draw(st.sampled_from(("accepted", "ignored")))
            boxes.append(label_box((x1, y1, x2, y2), draw(st.integers(0, 2)), band))
        split: Split = draw(st.sampled_from(("train", "val", "test")))
        images.append(label_image(f"i.{number}", boxes, split, (width, height)))
    return images
