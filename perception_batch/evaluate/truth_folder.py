"""Truth of a simulated drive: the tables that `docs/simulate.md` describes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from perception_batch.errors import LogError
from perception_batch.evaluate.tables import read_columns
from perception_batch.evaluate.truth import NO_CLASS, Classes, Truth, TruthFrame, TruthPicture

_CORNERS = ("visible_x1", "visible_y1", "visible_x2", "visible_y2")


def read_folder(folder: Path, classes: Classes) -> Truth:
    """Read the folder; boxes are those of visible pixels, and what is wholly hidden has none.

    Raises:
        LogError: a table is missing, damaged, of a newer version, or the tables do not belong together.
    """
    steps = read_columns(
        folder / "timesteps.parquet", ("cycle", "cycle_ns", "camera", "belongs", "stamp_ns", "messages")
    )
    objects = read_columns(folder / "objects.parquet", ("cycle", "object_id", "label", "x_m", "y_m", "z_m"))
    boxes = read_columns(
        folder / "boxes.parquet",
        ("cycle", "camera", "stamp_ns", "object_id", "label", *_CORNERS, "visible_fraction"),
    )
    cycles, first = np.unique(steps["cycle"], return_index=True)
    if not len(cycles):
        raise LogError(folder / "timesteps.parquet", "has no rows: the drive has no pictures")
    for table, name in ((objects, "objects"), (boxes, "boxes")):
        if not np.isin(table["cycle"], cycles).all() or (np.diff(table["cycle"]) < 0).any():
            raise LogError(
                folder / f"{name}.parquet", "does not belong to timesteps.parquet, or is out of order"
            )
    all_ids = np.concatenate([objects["object_id"], boxes["object_id"]])
    all_labels = np.concatenate([objects["label"], boxes["label"]])
    ids, place = np.unique(all_ids, return_index=True)
    labels = [str(label) for label in all_labels[place]]
    class_of = np.array([classes.number(label) for label in labels], np.int64)

    rows = np.searchsorted(ids, objects["object_id"])
    centers = np.stack([objects["x_m"], objects["y_m"], objects["z_m"]], axis=1)
    cuts = np.searchsorted(objects["cycle"], [*cycles, cycles[-1] + 1])
    frames = []
    for number, start in enumerate(first):
        part = slice(cuts[number], cuts[number + 1])
        stamp = int(steps["cycle_ns"][start])
        frames.append(TruthFrame(stamp, rows[part], class_of[rows[part]], centers[part]))

    shown = np.isfinite(boxes["visible_x1"])
    box_rows = np.searchsorted(ids, boxes["object_id"])
    corners = np.stack([boxes[name] for name in _CORNERS], axis=1)
    by_picture: dict[tuple[int, str], list[int]] = {}
    for i, key in enumerate(zip(boxes["cycle"].tolist(), boxes["camera"].tolist(), strict=True)):
        if shown[i]:
            by_picture.setdefault(key, []).append(i)
    frame_of = {int(cycle): number for number, cycle in enumerate(cycles)}
    pictures = []
    for cycle, camera, stamp, belongs, messages in zip(
        *(steps[name].tolist() for name in ("cycle", "camera", "stamp_ns", "belongs", "messages")),
        strict=True,
    ):
        if messages == 0:
            continue
        take = np.array(by_picture.get((cycle, camera), []), np.int64)
        pictures.append(
            TruthPicture(
                frame_of[cycle],
                str(camera),
                stamp,
                belongs,
                box_rows[take],
                class_of[box_rows[take]],
                corners[take],
                boxes["visible_fraction"][take],
            )
        )
    unknown = [label for label, number in zip(labels, class_of, strict=True) if number == NO_CLASS]
    return Truth(
        folder,
        tuple(frames),
        tuple(pictures),
        tuple(str(i) for i in ids),
        tuple(labels),
        knows_pictures=True,
        unknown_labels={label: unknown.count(label) for label in set(unknown)},
    )
