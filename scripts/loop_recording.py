#!/usr/bin/env python3
"""A longer log out of a short recording: its camera images over and over, byte for byte, with stamps that go on.

    python scripts/loop_recording.py LOG OUT_FOLDER --images 300

Written is a rosbag2 folder (MCAP) with the recording's CompressedImages, CameraInfos, transforms and odometry. The
timesteps (those of the camera that starts first) come at the recording's own period, or at 10 Hz where it has less than three
or they are irregular; within a timestep everything keeps its stagger and its delay between stamp and log time. At
each turn the vehicle jumps back to where the recording began.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import dataclasses
import itertools
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IMAGE = "sensor_msgs/msg/CompressedImage"
MOVING = ("sensor_msgs/msg/CameraInfo", "tf2_msgs/msg/TFMessage", "nav_msgs/msg/Odometry")
USUAL_PERIOD_NS = 100_000_000


@dataclass(frozen=True, slots=True)
class Recorded:
    """One message of the recording."""

    topic: str
    """Its topic."""
    log_ns: int
    """When it was recorded."""
    stamp_ns: int
    """Its header's stamp; the log time where it has none."""
    message: Any
    """As a ROS 2 message."""


@dataclass(frozen=True, slots=True)
class Looped:
    """What was written."""

    path: Path
    """The rosbag2 folder."""
    cameras: int
    """Number of cameras."""
    images: int
    """Number of images."""
    timesteps: int
    """Number of timesteps."""
    period_ns: int
    """Time from one to the next."""


def loop_recording(recording: Path, folder: Path, images: int) -> Looped:
    """Write at least `images` images, in whole timesteps.

    Raises:
        ValueError: the recording is no log, or has no CompressedImage.
    """
    from rosbags.rosbag2 import StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.LATEST)
    static, moving = _read(recording, store)
    by_camera: dict[str, list[int]] = {}
    for item in moving:
        if item.message.__msgtype__ == IMAGE:
            by_camera.setdefault(item.topic, []).append(item.stamp_ns)
    if not by_camera:
        raise ValueError(f"{recording} has no messages of type {IMAGE}: nothing to loop")
    steps_ns = sorted(min(by_camera.values(), key=min))
    period_ns, parts = choose_period_ns(steps_ns), _by_timestep(steps_ns, moving)
    plan: list[tuple[int, int, Recorded]] = []  # log time, what is added to all times, message
    timesteps = written = 0
    while written < images:
        shift_ns = steps_ns[0] + timesteps * period_ns - steps_ns[timesteps % len(steps_ns)]
        part = parts[timesteps % len(parts)]
        plan += [(item.log_ns + shift_ns, shift_ns, item) for item in part]
        written += sum(item.message.__msgtype__ == IMAGE for item in part)
        timesteps += 1
    plan.sort(key=lambda entry: entry[0])
    plan[:0] = [(plan[0][0], 0, item) for item in static]
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections: dict[str, Any] = {}
        for log_ns, shift_ns, item in plan:
            kind = item.message.__msgtype__
            if item.topic not in connections:
                connections[item.topic] = writer.add_connection(item.topic, kind, typestore=store)
            moved = _shifted(item.message, shift_ns, store)
            writer.write(connections[item.topic], log_ns, store.serialize_cdr(moved, kind))
    return Looped(folder, len(by_camera), written, timesteps, period_ns)


def choose_period_ns(steps_ns: list[int]) -> int:
    """The median gap of the timesteps; 100 ms where there are less than three or a gap is 20 % off."""
    gaps = [b - a for a, b in itertools.pairwise(steps_ns)]
    if len(gaps) < 2:
        return USUAL_PERIOD_NS
    median = round(statistics.median(gaps))
    return median if all(abs(gap - median) <= 0.2 * median for gap in gaps) else USUAL_PERIOD_NS


def _by_timestep(steps_ns: list[int], moving: list[Recorded]) -> list[list[Recorded]]:
    """The messages of each timestep: from a little before it to a little before the next."""
    gaps = [b - a for a, b in itertools.pairwise(steps_ns)]
    early_ns = min([*gaps, USUAL_PERIOD_NS]) // 10
    longest_ns = max([*gaps, USUAL_PERIOD_NS])
    parts: list[list[Recorded]] = [[] for _ in steps_ns]
    for item in moving:
        i = max(bisect.bisect_right(steps_ns, item.stamp_ns + early_ns) - 1, 0)
        image = item.message.__msgtype__ == IMAGE
        # Transforms from long before or after the images would overlap those of the neighbouring turns.
        if image or abs(item.stamp_ns - steps_ns[i]) < longest_ns:
            parts[i].append(item)
    return parts


def _read(recording: Path, store: Any) -> tuple[list[Recorded], list[Recorded]]:
    """Static transforms, and everything else that is kept."""
    from rosbags.highlevel import AnyReader, AnyReaderError

    static: list[Recorded] = []
    moving: list[Recorded] = []
    try:
        reader = AnyReader([recording], default_typestore=store)
        reader.open()
    except (AnyReaderError, OSError) as error:
        raise ValueError(f"{recording} is no log that can be read: {error}") from None
    with contextlib.closing(reader):
        kept = [c for c in reader.connections if c.msgtype in (IMAGE, *MOVING)]
        if not kept:
            return [], []
        for connection, log_ns, raw in reader.messages(connections=kept):
            message = _as_ros2(reader.deserialize(raw, connection.msgtype), store)
            header = message.transforms[0].header if hasattr(message, "transforms") else message.header
            stamp_ns = header.stamp.sec * 10**9 + header.stamp.nanosec
            item = Recorded(connection.topic, log_ns, stamp_ns or log_ns, message)
            (static if connection.topic.endswith("tf_static") else moving).append(item)
    return static, moving


def _as_ros2(value: Any, store: Any) -> Any:
    """A message of ROS 1 as that of ROS 2: the same fields, without `seq`, in lower case (CameraInfo's K, D, R, P)."""
    if isinstance(value, list):
        return [_as_ros2(item, store) for item in value]
    if not dataclasses.is_dataclass(value):
        return value
    kind = store.types[getattr(value, "__msgtype__")]  # noqa: B009  (rosbags gives every message one)
    names = [field.name for field in dataclasses.fields(kind) if field.name != "__msgtype__"]
    return kind(
        **{
            name: _as_ros2(getattr(value, name if hasattr(value, name) else name.upper()), store)
            for name in names
        }
    )


def _shifted(message: Any, shift_ns: int, store: Any) -> Any:
    """The message with `shift_ns` added to its stamps."""
    if hasattr(message, "transforms"):
        return dataclasses.replace(
            message, transforms=[_shifted(item, shift_ns, store) for item in message.transforms]
        )
    stamp = message.header.stamp
    seconds, rest = divmod(stamp.sec * 10**9 + stamp.nanosec + shift_ns, 10**9)
    moved = store.types["builtin_interfaces/msg/Time"](seconds, rest)
    return dataclasses.replace(message, header=dataclasses.replace(message.header, stamp=moved))


def main(argv: list[str] | None = None) -> int:
    """Write the log and say what is in it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log", type=Path)
    parser.add_argument("out", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--images", type=int, default=300)
    args = parser.parse_args(argv)
    if args.images < 1 or args.out.exists():
        parser.error(
            f"{args.out} exists" if args.out.exists() else f"--images is {args.images}, the least is 1"
        )
    try:
        looped = loop_recording(args.log, args.out, args.images)
    except ValueError as error:
        print(f"loop_recording: error: {error}", file=sys.stderr)
        return 1
    print(
        f"{looped.path}: {looped.images} images of {looped.cameras} cameras, {looped.timesteps} timesteps at "
        f"{1e9 / looped.period_ns:g} Hz"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
