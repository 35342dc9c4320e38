"""The tables of the truth: columns, types, units and meaning. `docs/simulate.md` shows the same list."""

from __future__ import annotations

from functools import partial

from perception_batch.table_format import Column, TableFormat

TRUTH_VERSION = 1
"""Version of all truth tables and of ``meta.json``; a reader refuses a higher one."""

_table = partial(TableFormat, version=TRUTH_VERSION, family="truth")


def _column(name: str, unit: str, meaning: str, type_: str = "float64", *, nullable: bool = False) -> Column:
    return Column(name, type_, unit, meaning, nullable)


_CYCLE = _column("cycle", "", "counts the trigger cycles of the drive from 0", "int32")
_CYCLE_NS = _column(
    "cycle_ns", "ns", "true time of the cycle: when the trigger goes out, since 1970 (UTC)", "int64"
)
_TIME = _column("time_s", "s", "true time of the row since the first cycle")
_CAMERA = _column("camera", "", "name of the camera", "string")
_STAMP = _column(
    "stamp_ns",
    "ns",
    "the stamp in the message's header; of a picture that is not in the log: what it would have been",
    "int64",
)
_TRUE = _column(
    "true_ns",
    "ns",
    "true time of the exposure that the picture shows; of a frozen picture: that of the old one",
    "int64",
)
_OBJECT = _column("object_id", "", "identity over the whole drive, from 1", "int32")
_LABEL = _column("label", "", "class, by the default ontology's name", "string")

TIMESTEPS = _table(
    "timesteps",
    "one row per cycle and camera of the rig, whether or not its picture is in the log; by cycle, then by camera "
    "in the order of meta.json. Rows of one cycle with `belongs` are the frames that truly belong together",
    (
        _CYCLE,
        _CYCLE_NS,
        _TIME,
        _CAMERA,
        _column("belongs", "", "the picture is in the log and was exposed in this cycle", "bool"),
        _column("status", "", "ok, dropped, not_started or frozen", "string"),
        _STAMP,
        _TRUE,
        _column("log_ns", "ns", "log time of its first message; 0 where it is not in the log", "int64"),
        _column("messages", "", "image messages in the log: 0, 1, or 2 for a duplicate", "int16"),
    ),
)

EGO = _table(
    "ego",
    "one row per cycle: the own vehicle at `cycle_ns`",
    (
        _CYCLE,
        _CYCLE_NS,
        _TIME,
        _column("x_m", "m", "position of base_link in odom"),
        _column("y_m", "m", "position of base_link in odom"),
        _column("z_m", "m", "position of base_link in odom"),
        _column("qx", "", "quaternion of odom_SE3_base"),
        _column("qy", "", "quaternion of odom_SE3_base"),
        _column("qz", "", "quaternion of odom_SE3_base"),
        _column("qw", "", "quaternion of odom_SE3_base"),
        _column("vx_mps", "m/s", "velocity over ground in base_link's axes"),
        _column("vy_mps", "m/s", "velocity over ground in base_link's axes"),
        _column("vz_mps", "m/s", "velocity over ground in base_link's axes"),
        _column("yaw_rate_radps", "rad/s", "about base z"),
    ),
)

OBJECTS = _table(
    "objects",
    "one row per cycle and object within the truth's radius of the own vehicle, at `cycle_ns`; by cycle, object_id",
    (
        _CYCLE,
        _CYCLE_NS,
        _TIME,
        _OBJECT,
        _LABEL,
        _column("x_m", "m", "centre of the 3-D box in base_link"),
        _column("y_m", "m", "centre of the 3-D box in base_link"),
        _column("z_m", "m", "centre of the 3-D box in base_link"),
        _column("yaw_rad", "rad", "heading about base z, from x towards y"),
        _column("odom_x_m", "m", "centre of the 3-D box in odom"),
        _column("odom_y_m", "m", "centre of the 3-D box in odom"),
        _column("odom_z_m", "m", "centre of the 3-D box in odom"),
        _column("odom_qx", "", "quaternion of odom_SE3_object"),
        _column("odom_qy", "", "quaternion of odom_SE3_object"),
        _column("odom_qz", "", "quaternion of odom_SE3_object"),
        _column("odom_qw", "", "quaternion of odom_SE3_object"),
        _column("length_m", "m", "size of the 3-D box along its own x"),
        _column("width_m", "m", "size of the 3-D box along its own y"),
        _column("height_m", "m", "size of the 3-D box along its own z"),
        _column("vx_mps", "m/s", "velocity over ground in base_link's axes"),
        _column("vy_mps", "m/s", "velocity over ground in base_link's axes"),
        _column("vz_mps", "m/s", "velocity over ground in base_link's axes"),
        _column("odom_vx_mps", "m/s", "velocity over ground in odom"),
        _column("odom_vy_mps", "m/s", "velocity over ground in odom"),
        _column("odom_vz_mps", "m/s", "velocity over ground in odom"),
        _column("ego_distance_m", "m", "from base_link's origin to the centre of the box"),
    ),
)

BOXES = _table(
    "boxes",
    "one row per camera picture in the log and object that it shows or would show if nothing stood before it; "
    "boxes are pixels of the image, (0, 0) the outer corner of the top-left pixel; by cycle, camera (in the order "
    "of meta.json), object_id. A frozen picture has the boxes that it shows. A duplicated message has no rows of "
    "its own: join on (camera, stamp_ns)",
    (
        _CYCLE,
        _CYCLE_NS,
        _TIME,
        _CAMERA,
        _STAMP,
        _TRUE,
        _OBJECT,
        _LABEL,
        _column(
            "amodal_x1", "px", "left edge of the whole object as the lens shows it, clipped to the image"
        ),
        _column("amodal_y1", "px", "top edge"),
        _column("amodal_x2", "px", "right edge"),
        _column("amodal_y2", "px", "bottom edge"),
        _column("visible_x1", "px", "left edge of its visible pixels; null where none", nullable=True),
        _column("visible_y1", "px", "top edge", nullable=True),
        _column("visible_x2", "px", "right edge", nullable=True),
        _column("visible_y2", "px", "bottom edge", nullable=True),
        _column("visible_fraction", "", "visible pixels over those without anything before it, 0..1"),
        _column("truncation", "", "share of its projected box outside the image, 0..1"),
        _column("range_m", "m", "from the camera to the centre of its 3-D box at the exposure"),
    ),
)

FAULTS = _table(
    "faults",
    "one row per injected fault: what is done to single messages has a row per message, what is done to a camera "
    "for a while or for good has one row; by the order in which they happen",
    (
        _column("kind", "", "see the list of kinds", "string"),
        _column("camera", "", "name of the camera; empty where the whole log is meant", "string"),
        _column("cycle", "", "cycle of the picture, or in which it begins", "int32"),
        _STAMP,
        _column("log_ns", "ns", "log time of the message, or when it begins; 0: not in the log", "int64"),
        _column("value", "", "how much, in the unit that the kind states"),
        _column("detail", "", "JSON object with the kind's other numbers", "string"),
    ),
)

TABLES = (TIMESTEPS, EGO, OBJECTS, BOXES, FAULTS)

SURVIVORS = _table(
    "survivors",
    "one row per message of a log that was damaged, in the order of the log",
    (
        _column("topic", "", "topic", "string"),
        _column("log_ns", "ns", "log time", "int64"),
        _column("sequence", "", "counts the messages of its topic in the undamaged log, from 0", "int64"),
        _column("status", "", "intact, cut_chunk, unreachable, altered or lost (see `damage`)", "string"),
    ),
)
"""Not a part of the truth: stands beside a damaged copy."""

FAULT_KINDS = {
    "stagger": "the camera fires later than the cycle by `value` ns, always (one row a camera)",
    "jitter": "the camera's trigger scatters by `value` ns (standard deviation; one row a camera; the times of "
    "each picture stand in timesteps)",
    "exposure_offset": "light falls `value` ns after the stamp says, always (one row a camera)",
    "drop": "the picture is not in the log; `value` 1",
    "duplicate": "its message stands in the log twice; `log_ns` of the second, `value` ns after the first",
    "late": "its messages reach the log `value` ns later than they would have",
    "log_jitter": "delays of the log scatter by `value` ns (mean of an exponential distribution; one row a camera)",
    "bunch": "the recorder stops writing at `stamp_ns` (true time) and writes all that came in the meantime at "
    "`log_ns`; `value` ns long (one row a stop, camera empty)",
    "bunched": "one picture that waited in such a stop, `value` ns",
    "clock_jump": "from this picture on the camera's stamps are off by `value` ns",
    "clock_drift": "the camera's clock runs fast by `value` parts per million (one row a camera)",
    "late_start": "the camera's first picture comes `value` ns after the first cycle; the ones before are "
    "not_started in timesteps",
    "freeze": "the message has the bytes of an older picture; `value` ns older",
}
"""All values of `kind` in the table of faults, with the meaning of `value`."""


def schema_as_markdown() -> str:
    """The tables as in ``docs/simulate.md``."""
    lines: list[str] = []
    for table in (*TABLES, SURVIVORS):
        lines += [f"### {table.file_name}", "", f"{table.meaning[0].upper()}{table.meaning[1:]}.", ""]
        lines += ["| column | type | unit | null | meaning |", "|---|---|---|---|---|"]
        lines += [
            f"| `{c.name}` | {c.type} | {c.unit} | {'yes' if c.nullable else ''} | {c.meaning} |"
            for c in table.columns
        ]
        lines.append("")
    lines += ["| kind | meaning |", "|---|---|"]
    lines += [f"| `{kind}` | {meaning} |" for kind, meaning in FAULT_KINDS.items()]
    return "\n".join(lines) + "\n"
