"""The tables beside a training set: where every image and every box comes from."""

from __future__ import annotations

from functools import partial

from perception_batch.table_format import Column, TableFormat

LABELS_VERSION = 1
"""Version of both tables."""

_table = partial(TableFormat, version=LABELS_VERSION, family="labels")

_FILE = Column("file", "string", "", "the image's file below the set's folder")
_SPLIT = Column("split", "string", "", "train, val or test")
_DRIVE = Column("drive", "string", "", "name of the drive, unique in the set")
_CAMERA = Column("camera", "string", "", "name of the camera")
_STAMP = Column("frame_stamp_ns", "int64", "ns", "exposure of the image, since 1970 (UTC)")
_TIMESTEP = Column("timestep", "int32", "", "of the run")

IMAGES = _table(
    "images",
    "one row per image of the set; by run, timestep, camera",
    (
        _FILE,
        Column("sha256", "string", "", "of the file's bytes"),
        _SPLIT,
        Column("group", "string", "", "what is never split: drive, vehicle, day, place, or a block of time"),
        _DRIVE,
        _CAMERA,
        _STAMP,
        _TIMESTEP,
        Column("width", "int32", "px", "of the image"),
        Column("height", "int32", "px", "of the image"),
        Column("source", "string", "", "copied (the log's bytes), linked, or encoded (anew)"),
        Column("accepted", "int32", "", "labels"),
        Column("ignored", "int32", "", "regions to ignore"),
        Column("dropped", "int32", "", "boxes of the run that are neither"),
        Column("doubt", "float32", "", "0..1: how much a person should look at it"),
    ),
)

LABELS = _table(
    "labels",
    "one row per label and region to ignore, in the order of images.parquet",
    (
        _FILE,
        _SPLIT,
        _DRIVE,
        _CAMERA,
        _STAMP,
        _TIMESTEP,
        Column(
            "detection",
            "int32",
            "",
            "row within its camera frame in the run's detections.parquet; null: recovered",
            nullable=True,
        ),
        Column("track_id", "int64", "", "of the run; null for none", nullable=True),
        Column("x1", "float32", "px", "left edge in the image, from its outer left edge"),
        Column("y1", "float32", "px", "top edge, from its outer top edge"),
        Column("x2", "float32", "px", "right edge"),
        Column("y2", "float32", "px", "bottom edge"),
        Column("class_index", "int16", "", "place in the set's classes"),
        Column("label", "string", "", "its name"),
        Column("band", "string", "", "accepted or ignored"),
        Column("why", "string", "", "why it is not accepted; empty where it is"),
        Column("score", "float32", "", "the detector's; null: recovered", nullable=True),
        Column("quality", "float32", "", "0..1, see docs/labels.md"),
        Column("accept", "float32", "", "quality from which a box of this class is a label"),
        Column("ignore", "float32", "", "quality from which it is a region to ignore"),
        Column("recovered", "bool", "", "from a track's gap, no detection stands behind it"),
        Column("class_scores", "string", "", "JSON: probability by class, of its track; {} without one"),
        Column("model_sha256", "string", "", "of the weights that the run used"),
        Column("run", "string", "", "folder of the run"),
    ),
)
