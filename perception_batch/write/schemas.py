"""The tables of a run: columns, types, units and meaning. `docs/formats.md` shows the same list."""

from __future__ import annotations

from functools import partial

from perception_batch.picture_quality import BRIGHT_LUMA, DARK_LUMA
from perception_batch.table_format import Column, TableFormat

SCHEMA_VERSION = 1
"""Version of all tables and of ``run.json``; a reader refuses a higher one."""

_table = partial(TableFormat, version=SCHEMA_VERSION)

_DRIVE = Column("drive", "string", "", "name of the drive")
_TIMESTEP = Column("timestep", "int32", "", "counts the timesteps of the run from 0")
_STAMP = Column("stamp_ns", "int64", "ns", "time of the timestep, since 1970 (UTC)")
_TIME = Column("time_s", "float64", "s", "`stamp_ns` less the first plausible camera stamp of the log")
_CAMERA = Column("camera", "string", "", "name of the camera")
_DETECTION = Column(
    "detection", "int32", "", "counts the kept boxes of one camera in one timestep by falling score, from 0"
)


def _metres(name: str, meaning: str) -> Column:
    return Column(name, "float64", "m", meaning, nullable=True)


def _speed(name: str, meaning: str) -> Column:
    return Column(name, "float64", "m/s", meaning, nullable=True)


def _variance(name: str) -> Column:
    return Column(name, "float64", "m²", f"covariance of the position: {name[4:]}", nullable=True)


DETECTIONS = _table(
    "detections",
    "one row per box kept (score >= detect.keep_score); by timestep, camera, detection; written by detection "
    "alone, once",
    (
        _DRIVE,
        _TIMESTEP,
        _STAMP,
        _TIME,
        _CAMERA,
        Column("frame_stamp_ns", "int64", "ns", "exposure of the camera's frame, since 1970 (UTC)"),
        _DETECTION,
        Column("x1", "float32", "px", "left edge in the original image, from its outer left edge"),
        Column("y1", "float32", "px", "top edge in the original image, from its outer top edge"),
        Column("x2", "float32", "px", "right edge"),
        Column("y2", "float32", "px", "bottom edge"),
        Column("score", "float32", "", "the model's confidence, 0..1"),
        Column("class_id", "int16", "", "the model's own class number"),
        Column("label", "string", "", "the model's own class name"),
    ),
)

TIMESTEPS = _table(
    "timesteps",
    "one row per timestep and selected camera, in the order of the cameras; written by detection alone: with "
    "detections.parquet it is all that fusion needs to start again",
    (
        _DRIVE,
        _TIMESTEP,
        _STAMP,
        _TIME,
        _CAMERA,
        Column("status", "string", "", "ok, missing, not_due, held or undecodable"),
        Column(
            "offset_ns",
            "int64",
            "ns",
            "the frame's stamp less `stamp_ns`; null without a frame",
            nullable=True,
        ),
        Column("width", "int32", "px", "width of the original image; null if not decoded", nullable=True),
        Column("height", "int32", "px", "height of the original image; null if not decoded", nullable=True),
        Column("detections", "int32", "", "rows of this camera and timestep in detections.parquet"),
    ),
)

OBJECTS = _table(
    "objects",
    "one row per fused object and timestep; by timestep, object",
    (
        _DRIVE,
        _TIMESTEP,
        _STAMP,
        _TIME,
        Column("object", "int32", "", "counts the objects of the timestep by falling score, from 0"),
        Column("track_id", "int64", "", "identity over time; null without a tracker", nullable=True),
        Column("class_id", "int16", "", "the model's number of the class; -1 where the model has none"),
        Column("label", "string", "", "the ontology's name of the class, the model's own if it has none"),
        Column("score", "float32", "", 'see "Score of an object", 0..1'),
        _metres("x_m", "centre of the 3-D box in the base frame, forward; null if only the bearing is known"),
        _metres("y_m", "... to the left"),
        _metres("z_m", "... up"),
        _metres("odom_x_m", "the centre in the ego motion's fixed frame; null without ego motion"),
        _metres("odom_y_m", "... y"),
        _metres("odom_z_m", "... z"),
        _speed("vx_mps", "velocity over ground, axes of the base frame, forward; null if unknown"),
        _speed("vy_mps", "... to the left"),
        _speed("vz_mps", "... up"),
        Column("yaw_rad", "float64", "rad", "heading, from base x towards y; null if unknown", nullable=True),
        _metres("length_m", "length of the 3-D box"),
        _metres("width_m", "width of the 3-D box"),
        _metres("height_m", "height of the 3-D box"),
        _variance("cov_xx"),
        _variance("cov_xy"),
        _variance("cov_xz"),
        _variance("cov_yy"),
        _variance("cov_yz"),
        _variance("cov_zz"),
        _metres("ego_distance_m", "horizontal distance from the base frame's origin to the centre"),
        Column("filled", "bool", "", "true where hindsight filled a gap without observations"),
    ),
)

OBSERVATIONS = _table(
    "observations",
    "one row per row of detections.parquet, in its order: what fusion made of it",
    (
        _DRIVE,
        _TIMESTEP,
        _TIME,
        _CAMERA,
        _DETECTION,
        Column("object", "int32", "", "the object of the timestep; null for none", nullable=True),
        Column("track_id", "int64", "", "track of that object; null for none", nullable=True),
        Column(
            "suppressed",
            "string",
            "",
            "why it is part of no object: low_score, ego_mask, duplicate, ghost, class; null where it is",
            nullable=True,
        ),
    ),
)

TRACKS = _table(
    "tracks",
    "one row per track; by track_id",
    (
        _DRIVE,
        Column("track_id", "int64", "", "identity over time"),
        Column("class_id", "int16", "", "as in objects.parquet, decided over the whole track"),
        Column("label", "string", "", "as in objects.parquet, decided over the whole track"),
        Column("first_stamp_ns", "int64", "ns", "timestep of its first object, since 1970 (UTC)"),
        Column("last_stamp_ns", "int64", "ns", "timestep of its last object, since 1970 (UTC)"),
        Column("first_time_s", "float64", "s", "`first_stamp_ns` as `time_s`"),
        Column("last_time_s", "float64", "s", "`last_stamp_ns` as `time_s`"),
        Column("observed", "int32", "", "timesteps with observations"),
        Column("filled", "int32", "", "timesteps filled by hindsight"),
        Column("cameras", "string", "", "names of the cameras that saw it, sorted, joined by commas"),
        Column("mean_score", "float32", "", "mean score of its observed objects, 0..1"),
        _metres("min_distance_m", "smallest `ego_distance_m`; null without positions"),
    ),
)

FRAMES = _table(
    "frames",
    "one row per camera frame in the log, in the order in which synchronisation settled them",
    (
        _DRIVE,
        _CAMERA,
        Column("frame_stamp_ns", "int64", "ns", "exposure of the frame, since 1970 (UTC)"),
        Column("time_s", "float64", "s", "`frame_stamp_ns` less the first plausible camera stamp of the log"),
        Column("log_ns", "int64", "ns", "when the recorder received it, since 1970 (UTC)"),
        Column("timestep", "int32", "", "the timestep it belongs to; -1 when unused"),
        Column("status", "string", "", "used, unused or undecodable"),
        Column("reason", "string", "", "why it is unused or undecodable; null where used", nullable=True),
        Column(
            "width", "int32", "px", "width of the image; null where its header is unreadable", nullable=True
        ),
        Column(
            "height", "int32", "px", "height of the image; null where its header is unreadable", nullable=True
        ),
        Column("encoding", "string", "", "jpeg, png, or the raw pixel format such as rgb8"),
        Column(
            "sharpness",
            "float32",
            "levels²",
            "variance of the Laplacian of luma (0..255) at a small scale: the lower, the more blurred; null unless used",
            nullable=True,
        ),
        Column(
            "dark_share",
            "float32",
            "",
            f"share of the pixels with a luma of at most {DARK_LUMA}, 0..1; null unless used",
            nullable=True,
        ),
        Column(
            "bright_share",
            "float32",
            "",
            f"share of the pixels with a luma of at least {BRIGHT_LUMA}, 0..1: overexposed; null unless used",
            nullable=True,
        ),
    ),
)

EGO = _table(
    "ego",
    "one row per pose of the vehicle, at the log's rate, by stamp",
    (
        _DRIVE,
        Column("stamp_ns", "int64", "ns", "time of the pose, since 1970 (UTC)"),
        Column("time_s", "float64", "s", "`stamp_ns` less the first plausible camera stamp of the log"),
        Column("frame_id", "string", "", "the fixed frame, such as odom"),
        Column("x_m", "float64", "m", "position of the base frame in the fixed frame"),
        Column("y_m", "float64", "m", "... y"),
        Column("z_m", "float64", "m", "... z"),
        Column("qx", "float64", "", "orientation of the base frame in the fixed frame, unit quaternion"),
        Column("qy", "float64", "", "... y"),
        Column("qz", "float64", "", "... z"),
        Column("qw", "float64", "", "... w, >= 0"),
        _speed("vx_mps", "velocity over ground, axes of the base frame, forward; null if unknown"),
        _speed("vy_mps", "... to the left"),
        _speed("vz_mps", "... up"),
        Column("source", "string", "", "tf, or the odometry topic"),
    ),
)

LIDAR = _table(
    "lidar",
    "one row per row of detections.parquet in which the lidar's points tell a range; by timestep, camera, detection; "
    "written by detection alone, and only where `fuse.lidar` is set",
    (
        _DRIVE,
        _TIMESTEP,
        _TIME,
        _CAMERA,
        _DETECTION,
        Column("range_m", "float32", "m", "horizontal range from the camera to the near face"),
        Column("sigma_m", "float32", "m", "standard deviation of `range_m`"),
        Column("spread_m", "float32", "m", "how far apart the middle half of the points lies in range"),
        Column("apart_s", "float32", "s", "the frame's stamp less the sweep's"),
        Column("points", "int32", "", "points that made the range"),
    ),
)

MOUNTS = _table(
    "mounts",
    "one row per timestep and camera that was not where rig.json has it (a sprung cab, a corrected calibration); by "
    "timestep, camera; written by detection alone, and only where the log moves a camera on the vehicle",
    (
        _DRIVE,
        _TIMESTEP,
        _TIME,
        _CAMERA,
        Column("x_m", "float64", "m", "position of the camera in the base frame at its exposure"),
        Column("y_m", "float64", "m", "... y"),
        Column("z_m", "float64", "m", "... z"),
        Column("qx", "float64", "", "orientation of its optical frame in the base frame, unit quaternion"),
        Column("qy", "float64", "", "... y"),
        Column("qz", "float64", "", "... z"),
        Column("qw", "float64", "", "... w, >= 0"),
    ),
)

LENSES = _table(
    "lenses",
    "one row per timestep and camera whose lens was not as in rig.json; by timestep, camera; written by detection alone, "
    "and only where the log's CameraInfo changes",
    (
        _DRIVE,
        _TIMESTEP,
        _TIME,
        _CAMERA,
        Column("model", "string", "", "pinhole, plumb_bob, rational_polynomial or equidistant"),
        Column("width_px", "int32", "px", "image width that the numbers belong to"),
        Column("height_px", "int32", "px", "image height that the numbers belong to"),
        Column("fx_px", "float64", "px", "focal length along x"),
        Column("fy_px", "float64", "px", "focal length along y"),
        Column("cx_px", "float64", "px", "principal point, pixel-centre convention"),
        Column("cy_px", "float64", "px", "... y"),
        Column("distortion", "string", "", "coefficients in the order of ROS, between spaces; empty without"),
    ),
)

ALL_TABLES = (DETECTIONS, TIMESTEPS, OBJECTS, OBSERVATIONS, TRACKS, FRAMES, EGO)
