"""Which cameras a log has: found by message type, named by topic, one topic each."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from perception_batch.config import CameraConfig
from perception_batch.errors import ConfigError, LogError, printable
from perception_batch.read.images.camera_types import CAMERA_TYPES, Family, family_of, is_file_type

TRAILING = frozenset(
    [
        "compressed",
        "image",
        "image_raw",
        "image_color",
        "image_mono",
        "image_rect",
        "image_rect_color",
        "image_rect_mono",
        "image_rect_raw",
        "image_compressed",
        "image_raw_compressed",
        "image_color_compressed",
        "image_rect_compressed",
        "image_rect_color_compressed",
        "ffmpeg",
        "foxglove",
        "video",
    ]
)
"""Last parts of a topic that say what the images are and not whose."""

_NOT_A_PICTURE = frozenset(
    [
        "depth",
        "compresseddepth",
        "disparity",
        "mask",
        "masks",
        "seg",
        "segmentation",
        "semantic",
        "semantics",
        "debug",
        "label",
        "labels",
    ]
)
"""Words in a topic by which its images are no camera pictures."""

DEPTH_ENCODINGS = frozenset({"16uc1", "32fc1"})
"""REP-118: depth images; cameras use ``mono16`` for sixteen bits."""


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic of the log."""

    name: str
    """Topic."""
    type: str
    """Message type, such as ``sensor_msgs/msg/Image``."""
    count: int
    """Messages in all files that are there."""


@dataclass(frozen=True, slots=True)
class CameraTopic:
    """A camera of the log and the topic that stands for it."""

    name: str
    """Name of the camera, renamed where the config says so."""
    config_name: str
    """Its key under ``cameras`` in the config: the name before any renaming."""
    topic: str
    """The topic that is read."""
    msgtype: str
    """A type of `camera_types`, such as ``sensor_msgs/msg/CompressedImage``."""
    count: int
    """Images in all files that are there."""
    alternates: tuple[str, ...]
    """Other topics with the same pictures, which are not read."""
    enabled: bool
    """Read unless the caller names others."""
    why_not: str
    """Why it is not enabled; empty where it is."""


def is_picture(topic: str) -> bool:
    """False for topics that by their words carry depth, masks or debug images."""
    return _NOT_A_PICTURE.isdisjoint(re.split(r"[/_]+", topic.lower()))


def stem(topic: str) -> tuple[str, ...]:
    """The parts of a topic that tell whose images they are: ``/a/image_raw/compressed`` gives ``("a",)``."""
    parts = [part for part in topic.split("/") if part]
    while parts and parts[-1].lower() in TRAILING:
        parts.pop()
    return tuple(parts)


def file_safe(name: str) -> str:
    """A name from a log with everything replaced that does not belong into a file name; may be empty."""
    kept = "".join(c if c.isalnum() or c in "_-." else "_" for c in name).strip("._")
    return kept[:100]


def find_cameras(
    topics: Sequence[TopicInfo],
    settings: Mapping[str, CameraConfig],
    path: Path,
    frame_id_of: Callable[[str], str],
) -> dict[str, CameraTopic]:
    """All cameras of a log by name, sorted; `frame_id_of` is asked for a topic that leaves no name.

    Raises:
        LogError: there is no image topic; lists what there is.
        ConfigError: the config names a camera or topic that is not there, or two cameras get one name.
    """
    images = {t.name: t for t in topics if family_of(t.type) is not None}
    if not images:
        have = ", ".join(f"{printable(t.name)} ({printable(t.type)})" for t in topics[:20]) or "no topics"
        more = f" and {len(topics) - 20} more" if len(topics) > 20 else ""
        raise LogError(path, f"no camera topic ({CAMERA_TYPES}); it has {have}{more}")
    claimed = {name: s.topic for name, s in settings.items() if s.topic is not None}
    for name, topic in claimed.items():
        if topic not in images:
            raise ConfigError(
                f"cameras.{printable(name)}.topic: {printable(topic)} is no image topic of {printable(path)}; "
                f"it has {', '.join(map(printable, sorted(images)))}"
            )
    groups: dict[tuple[str, ...], list[TopicInfo]] = {}
    for topic_info in images.values():
        key = ("", *stem(topic_info.name)) if _is_shared(topic_info) else (topic_info.name,)
        groups.setdefault(key, []).append(topic_info)

    cameras: dict[str, CameraTopic] = {}
    taken: set[str] = set()
    for members in groups.values():
        members.sort(key=_preference)
        mine = {name: topic for name, topic in claimed.items() if topic in {m.name for m in members}}
        rest = tuple(m.name for m in members if m.name not in mine.values())
        for name, topic in mine.items():
            cameras[name] = _camera(name, images[topic], rest)
        if mine:
            taken.update(m.name for m in members)
    open_groups = [g for g in groups.values() if g[0].name not in taken]
    for name, members in _names(open_groups, set(cameras), frame_id_of).items():
        first = members[0]
        why = "" if is_picture(first.name) else "depth, mask or debug images; read when named"
        why = why or ("" if first.count else "it has no messages")
        cameras[name] = replace(
            _camera(name, first, tuple(m.name for m in members[1:])), enabled=not why, why_not=why
        )
    return _configured(cameras, settings, path)


def _is_shared(topic: TopicInfo) -> bool:
    """True where a topic is one of the forms in which a camera publishes; a file and a depth image stand alone."""
    return is_picture(topic.name) and not is_file_type(topic.type)


_ORDER: dict[Family | None, int] = {"still": 0, "video": 1, "raw": 2, None: 3}


def _preference(topic: TopicInfo) -> tuple[bool, int, int, str]:
    """Topics with messages first; then compressed stills, video, raw pixels; then the shorter name.

    A compressed still is what the camera's driver made of each picture by itself: any one is decoded without those
    before it. Video says less of each picture, and raw pixels cost the most to read.
    """
    return (topic.count == 0, _ORDER[family_of(topic.type)], len(topic.name), topic.name)


def _camera(name: str, topic: TopicInfo, alternates: tuple[str, ...]) -> CameraTopic:
    return CameraTopic(name, name, topic.name, topic.type, topic.count, alternates, True, "")


def _names(
    groups: list[list[TopicInfo]], taken: set[str], frame_id_of: Callable[[str], str]
) -> dict[str, list[TopicInfo]]:
    """A name for each group: its stem, of a file all of it; where names collide, the whole topic; last, a number."""
    short: dict[str, list[list[TopicInfo]]] = {}
    for members in sorted(groups, key=lambda g: g[0].name):
        first = members[0].name
        parts = first.split("/") if is_file_type(members[0].type) else stem(first)
        name = file_safe("_".join(part for part in parts if part))
        name = name or file_safe(frame_id_of(first).strip("/")) or "camera"
        short.setdefault(name, []).append(members)
    out: dict[str, list[TopicInfo]] = {}
    for name, same in short.items():
        if len(same) == 1 and name not in taken:
            out[name] = same[0]
    for name, same in short.items():
        if len(same) == 1 and name not in taken:
            continue
        for members in same:
            longer = file_safe("_".join(p for p in members[0].name.split("/") if p)) or name
            unique, number = longer, 2
            while unique in taken or unique in out:
                unique, number = f"{longer}_{number}", number + 1
            out[unique] = members
    return out


def _configured(
    cameras: dict[str, CameraTopic], settings: Mapping[str, CameraConfig], path: Path
) -> dict[str, CameraTopic]:
    out: dict[str, CameraTopic] = {}
    for name in settings:
        if name not in cameras:
            near = difflib.get_close_matches(name, cameras, n=1)
            hint = f"; did you mean {printable(near[0])!r}?" if near else ""
            raise ConfigError(
                f"cameras.{printable(name)}: {printable(path)} has no such camera{hint} "
                f"(it has {', '.join(map(printable, sorted(cameras)))})"
            )
    for name, camera in cameras.items():
        setting = settings.get(name)
        if setting is not None and not setting.enabled:
            camera = replace(camera, enabled=False, why_not="switched off by the config")
        if setting is not None and setting.rename is not None:
            new = file_safe(setting.rename)
            if not new or new != setting.rename:
                raise ConfigError(
                    f"cameras.{printable(name)}.rename: {printable(setting.rename)!r} is no usable name; "
                    "allowed are letters, digits, `_`, `-` and `.`"
                )
            camera = replace(camera, name=new)
        if camera.name in out:
            raise ConfigError(
                f"cameras.{printable(name)}.rename: two cameras would be called {printable(camera.name)!r}"
            )
        out[camera.name] = camera
    return {name: out[name] for name in sorted(out)}
