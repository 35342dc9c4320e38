"""Writes small, real logs into a folder, for any test: ROS 1 bags, rosbag2 folders (sqlite3, MCAP), split or not.

::

    log = write_log(tmp_path, container="mcap", cameras=[CameraSpec("cam_front"), CameraSpec("cam_back")])
    log = write_log(tmp_path, container="bag1", cameras=[CameraSpec("left", encoding="rgb8", step_padding=16)])
    log = write_log(tmp_path, cameras=ring(6), splits=3, ego_speed_mps=10.0)

What is written for each camera: its images, a CameraInfo beside each image, and its mount in ``/tf_static``
(``base_link`` to ``<name>_optical``). With `ego_speed_mps` also ``/tf`` (``odom`` to ``base_link``) and, with
`odometry`, ``/odom``. Every picture is `picture(camera, index)`, so a test can draw it again and compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from log_containers import Container, write_bag1, write_rosbag2

Image = npt.NDArray[np.uint8]

START_NS = 1_700_000_000_123_456_789
"""Stamp of the first image of a camera without phase; its last digits do not survive a float."""


@dataclass
class CameraSpec:
    """One camera of a written log."""

    name: str = "cam"
    """Name; also the first part of the topic and of the frame id."""
    topic: str | None = None
    """Image topic; default ``/<name>/image_raw/compressed``, or ``/<name>/image_raw`` for raw pixels."""
    encoding: str = "jpeg"
    """``jpeg``, ``png``, or a raw encoding: ``rgb8 bgr8 rgba8 bgra8 mono8 mono16 16UC1``."""
    size: tuple[int, int] = (64, 48)
    """Width, height, px."""
    rate_hz: float = 10.0
    """Pictures a second."""
    phase_ms: float = 0.0
    """How much later than START_NS the first picture is taken."""
    log_delay_ms: float | Sequence[float] = 3.0
    """Log time less exposure; a sequence is used in turn."""
    drop: Iterable[int] = ()
    """Indices that are not written."""
    stamps_ns: Sequence[int] | None = None
    """Header stamps instead of the regular ones; log times stay regular."""
    broken: Iterable[int] = ()
    """Indices whose image data is cut to a third."""
    malformed: Iterable[int] = ()
    """Indices whose whole message is cut to ten bytes."""
    format: str | None = None
    """``CompressedImage.format``; default the encoding. It may lie."""
    step_padding: int = 0
    """Extra bytes in each row of a raw image, filled with 0xAB."""
    bigendian: bool = False
    """Byte order of 16-bit raw pixels (and the flag)."""
    frame_id: str | None = None
    """Default ``<name>_optical``."""
    info: bool = True
    """Write CameraInfo."""
    info_topic: str | None = None
    """Default ``camera_info`` beside the image topic."""
    info_fields: dict[str, Any] = field(default_factory=dict)
    """Fields of CameraInfo to replace, by ROS 2 names (``k``, ``d``, ``width``, ``binning_x``, ...)."""
    info_at: Iterable[int] | None = None
    """Indices at which CameraInfo is written; default all."""
    position_m: tuple[float, float, float] = (1.5, 0.0, 1.6)
    """Mount in base_link."""
    yaw_deg: float = 0.0
    """Where it looks: 0 forward, 90 left."""
    tf: bool = True
    """Write the mount to /tf_static."""
    draw: Callable[[CameraSpec, int], Image] | None = None
    """Makes the (H, W, 3) RGB picture; default `picture`."""

    @property
    def image_topic(self) -> str:
        """The topic of the images."""
        if self.topic:
            return self.topic
        return f"/{self.name}/image_raw" + ("/compressed" if self.compressed else "")

    @property
    def compressed(self) -> bool:
        """True for JPEG and PNG."""
        return self.encoding in ("jpeg", "png")

    @property
    def optical_frame(self) -> str:
        """The frame id."""
        return self.frame_id if self.frame_id is not None else f"{self.name}_optical"

    @property
    def camera_info_topic(self) -> str:
        """The topic of the CameraInfo."""
        if self.info_topic:
            return self.info_topic
        parts = self.image_topic.split("/")
        parts = parts[:-1] if parts[-1] == "compressed" else parts
        return "/".join([*parts[:-1], "camera_info"])

    def k(self) -> list[float]:
        """Row-major K of a lens of about 60 degrees."""
        w, h = self.size
        return [w * 0.9, 0.0, w / 2 - 0.5, 0.0, w * 0.9, h / 2 - 0.5, 0.0, 0.0, 1.0]

    def stamp_ns(self, index: int) -> int:
        """Regular exposure time of picture `index`."""
        return START_NS + round(self.phase_ms * 1e6) + round(index * 1e9 / self.rate_hz)


@dataclass
class Extra:
    """One more message."""

    topic: str
    """Topic."""
    log_ns: int
    """Log time."""
    message: Any
    """Made with `message_types(container)`; or raw bytes together with `msgtype`."""
    msgtype: str | None = None
    """Needed for raw bytes."""


def ring(n: int, **common: Any) -> list[CameraSpec]:
    """`n` cameras that look all round, evenly, firing one after another over 40 ms as nuScenes' do."""
    return [CameraSpec(f"cam_{i}", phase_ms=40.0 * i / n, yaw_deg=360.0 * i / n, **common) for i in range(n)]


def picture(camera: CameraSpec, index: int) -> Image:
    """A smooth (H, W, 3) RGB picture with the index on it; no two indices or cameras have the same."""
    w, h = camera.size
    shade = sum(map(ord, camera.name)) % 97
    x = np.linspace(0, 150, w)[None, :]
    y = np.linspace(0, 150, h)[:, None]
    planes = [x + shade + 0 * y, y + 10 * (index % 10) + 0 * x, (x + y) / 2 + shade / 2]
    image = np.ascontiguousarray(np.stack(planes, axis=2).clip(0, 255).astype(np.uint8))
    cv2.putText(image, str(index), (2, h - 4), cv2.FONT_HERSHEY_PLAIN, max(1.0, h / 60), (255, 255, 255), 1)
    return image


def message_types(container: Container) -> Any:
    """The rosbags typestore whose ``.types`` make messages for this container."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC if container == "bag1" else Stores.LATEST)
    if container == "bag1" and "tf2_msgs/msg/TFMessage" not in store.types:
        store.register(
            get_types_from_msg("geometry_msgs/TransformStamped[] transforms", "tf2_msgs/msg/TFMessage")
        )
    return store


def write_log(
    folder: Path,
    container: Container = "mcap",
    cameras: Sequence[CameraSpec] = (),
    *,
    frames: int = 10,
    name: str = "log",
    splits: int = 1,
    metadata: bool = True,
    ego_speed_mps: float | None = None,
    ego_rate_hz: float = 50.0,
    odometry: bool = False,
    tf_edges: Sequence[tuple[str, str, tuple[float, float, float], tuple[float, float, float, float]]] = (),
    extra: Sequence[Extra] = (),
    compress_messages: bool = False,
    compress_chunks: bool = False,
) -> Path:
    """Write a log and return its path: ``<name>.bag``, or the folder ``<name>``.

    Args:
        folder: where to put it.
        container: ``mcap`` and ``sqlite3`` are rosbag2 folders, ``bag1`` is a ROS 1 bag.
        cameras: what to record.
        frames: pictures a camera, dropped ones included.
        name: of the bag.
        splits: into how many files of about equal duration; a bag1 becomes ``<name>_<i>.bag`` and the
            folder that holds them is returned.
        metadata: write ``metadata.yaml`` (rosbag2).
        ego_speed_mps: writes ``/tf`` odom -> base_link, driving straight ahead.
        ego_rate_hz: of ``/tf`` and ``/odom``.
        odometry: writes ``/odom`` (nav_msgs/Odometry); without `ego_speed_mps` at 5 m/s and no ``/tf``.
        tf_edges: more static transforms: parent, child, translation, quaternion xyzw.
        extra: more messages.
        compress_messages: zstd per message (rosbag2).
        compress_chunks: zstd per chunk (MCAP), bz2 (bag1).
    """
    store = message_types(container)
    messages = _messages(store, container, cameras, frames, ego_speed_mps, ego_rate_hz, odometry, tf_edges)
    messages += [(e.log_ns, e.topic, e.msgtype or e.message.__msgtype__, e.message) for e in extra]
    messages.sort(key=lambda m: m[0])
    parts = [messages]
    if splits > 1:
        first, last = messages[0][0], messages[-1][0] + 1
        edges = [first + (last - first) * i // splits for i in range(1, splits)] + [last]
        parts = []
        low = first
        for high in edges:
            parts.append([m for m in messages if low <= m[0] < high])
            low = high
    folder.mkdir(parents=True, exist_ok=True)
    if container == "bag1":
        return write_bag1(folder, name, parts, store, compress_chunks)
    return write_rosbag2(folder, name, parts, store, container, metadata, compress_messages, compress_chunks)


def raw_pixels(camera: CameraSpec, image: Image) -> tuple[Image, int]:
    """The (H, W, 3) RGB picture in the camera's raw encoding: flat bytes with padded rows, and the step."""
    h, w = image.shape[:2]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    wide = ">u2" if camera.bigendian else "<u2"
    alpha = np.full((h, w, 1), 255, np.uint8)
    rows = {
        "rgb8": lambda: image,
        "bgr8": lambda: image[..., ::-1],
        "rgba8": lambda: np.concatenate([image, alpha], axis=2),
        "bgra8": lambda: np.concatenate([image[..., ::-1], alpha], axis=2),
        "mono8": lambda: grey,
        "mono16": lambda: (grey.astype(np.uint16) * 257).astype(wide).view(np.uint8),
        "16UC1": lambda: (grey.astype(np.uint16) * 10).astype(wide).view(np.uint8),
    }[camera.encoding]()
    flat = np.ascontiguousarray(rows).reshape(h, -1)
    padded = np.full((h, flat.shape[1] + camera.step_padding), 0xAB, np.uint8)
    padded[:, : flat.shape[1]] = flat
    return padded.reshape(-1), padded.shape[1]


def still_bytes(camera: CameraSpec, image: Image) -> bytes:
    """The (H, W, 3) RGB picture as the camera's JPEG or PNG file."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if camera.encoding == "jpeg" else []
    ok, data = cv2.imencode(f".{camera.encoding}", image[..., ::-1], options)
    if not ok:
        raise ValueError(f"cannot encode {camera.encoding}")
    return bytes(data)


def _messages(
    store: Any,
    container: Container,
    cameras: Sequence[CameraSpec],
    frames: int,
    ego_speed_mps: float | None,
    ego_rate_hz: float,
    odometry: bool,
    tf_edges: Sequence[Any],
) -> list[tuple[int, str, str, Any]]:
    """All messages as (log_ns, topic, type, message)."""
    types = store.types
    ros1 = container == "bag1"

    def header(stamp_ns: int, frame_id: str) -> Any:
        stamp = types["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9)
        args = (0, stamp, frame_id) if ros1 else (stamp, frame_id)
        return types["std_msgs/msg/Header"](*args)

    def transform(stamp_ns: int, parent: str, child: str, t: Any, q: Any) -> Any:
        return types["geometry_msgs/msg/TransformStamped"](
            header(stamp_ns, parent),
            child,
            types["geometry_msgs/msg/Transform"](
                types["geometry_msgs/msg/Vector3"](*map(float, t)),
                types["geometry_msgs/msg/Quaternion"](*map(float, q)),
            ),
        )

    out: list[tuple[int, str, str, Any]] = []
    for camera in cameras:
        out += _camera_messages(types, header, ros1, camera, frames, store)
    first = min((c.stamp_ns(0) for c in cameras), default=START_NS)
    last = max((c.stamp_ns(frames - 1) for c in cameras), default=START_NS + 10**9)
    static = [
        transform(first, "base_link", c.optical_frame, c.position_m, optical_quaternion(c.yaw_deg))
        for c in cameras
        if c.tf
    ]
    static += [transform(first, *edge) for edge in tf_edges]
    tf_type = "tf2_msgs/msg/TFMessage"
    if static:
        out.append((first, "/tf_static", tf_type, types[tf_type](static)))
    if ego_speed_mps is not None or odometry:
        speed = 5.0 if ego_speed_mps is None else ego_speed_mps
        step = round(1e9 / ego_rate_hz)
        for stamp in range(first - 2 * step, last + 3 * step, step):
            x = speed * (stamp - first) / 1e9
            if ego_speed_mps is not None:
                moved = transform(stamp, "odom", "base_link", (x, 0, 0), (0, 0, 0, 1))
                out.append((stamp + 1_000_000, "/tf", tf_type, types[tf_type]([moved])))
            if odometry:
                out.append(
                    (
                        stamp + 1_000_000,
                        "/odom",
                        "nav_msgs/msg/Odometry",
                        _odometry(types, header, stamp, x, speed),
                    )
                )
    return out


def _camera_messages(
    types: Any, header: Any, ros1: bool, camera: CameraSpec, frames: int, store: Any
) -> list[tuple[int, str, str, Any]]:
    out: list[tuple[int, str, str, Any]] = []
    drop, broken, malformed = set(camera.drop), set(camera.broken), set(camera.malformed)
    info_at = None if camera.info_at is None else set(camera.info_at)
    delays = [camera.log_delay_ms] if isinstance(camera.log_delay_ms, (int, float)) else camera.log_delay_ms
    for i in range(frames):
        if i in drop:
            continue
        log_ns = camera.stamp_ns(i) + round(delays[i % len(delays)] * 1e6)
        stamp = camera.stamp_ns(i) if camera.stamps_ns is None else camera.stamps_ns[i]
        head = header(stamp, camera.optical_frame)
        image = (camera.draw or picture)(camera, i)
        message: Any
        if camera.compressed:
            msgtype = "sensor_msgs/msg/CompressedImage"
            data = still_bytes(camera, image)
            data = data[: len(data) // 3] if i in broken else data
            message = types[msgtype](head, camera.format or camera.encoding, np.frombuffer(data, np.uint8))
        else:
            msgtype = "sensor_msgs/msg/Image"
            flat, step = raw_pixels(camera, image)
            flat = flat[: len(flat) // 3] if i in broken else flat
            h, w = image.shape[:2]
            message = types[msgtype](head, h, w, camera.encoding, int(camera.bigendian), step, flat)
        if i in malformed:
            pack = store.serialize_ros1 if ros1 else store.serialize_cdr
            message = bytes(pack(message, msgtype))[:10]
        out.append((log_ns, camera.image_topic, msgtype, message))
        if camera.info and (info_at is None or i in info_at):
            out.append(
                (
                    log_ns,
                    camera.camera_info_topic,
                    "sensor_msgs/msg/CameraInfo",
                    _camera_info(types, head, ros1, camera),
                )
            )
    return out


def _camera_info(types: Any, head: Any, ros1: bool, camera: CameraSpec) -> Any:
    k = camera.k()
    w, h = camera.size
    roi = types["sensor_msgs/msg/RegionOfInterest"]
    values: dict[str, Any] = {
        "height": h,
        "width": w,
        "distortion_model": "plumb_bob",
        "d": [0.0] * 5,
        "k": k,
        "r": [1.0, 0, 0, 0, 1, 0, 0, 0, 1],
        "p": [k[0], 0, k[2], 0, 0, k[4], k[5], 0, 0, 0, 1, 0],
        "binning_x": 0,
        "binning_y": 0,
        "roi": (0, 0, 0, 0, False),
    }
    values.update(camera.info_fields)
    values["roi"] = roi(*values["roi"])
    for key in "dkrp":
        values[key] = np.array(values[key], np.float64)
    fields = {key.upper() if ros1 and key in "dkrp" else key: value for key, value in values.items()}
    return types["sensor_msgs/msg/CameraInfo"](header=head, **fields)


def _odometry(types: Any, header: Any, stamp: int, x: float, speed: float) -> Any:
    vector, point = types["geometry_msgs/msg/Vector3"], types["geometry_msgs/msg/Point"]
    pose = types["geometry_msgs/msg/Pose"](
        point(x, 0.0, 0.0), types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    )
    twist = types["geometry_msgs/msg/Twist"](vector(speed, 0.0, 0.0), vector(0.0, 0.0, 0.0))
    return types["nav_msgs/msg/Odometry"](
        header(stamp, "odom"),
        "base_link",
        types["geometry_msgs/msg/PoseWithCovariance"](pose, np.zeros(36)),
        types["geometry_msgs/msg/TwistWithCovariance"](twist, np.zeros(36)),
    )


def optical_quaternion(yaw_deg: float) -> tuple[float, float, float, float]:
    """Quaternion xyzw of ``base_SE3_camera`` for a level camera that looks along `yaw_deg` (0 forward, 90 left)."""
    # The optical frame of a camera that looks along base x: z forward, x right, y down (REP-103).
    x, y, z, w = -0.5, 0.5, -0.5, 0.5
    s, c = math.sin(math.radians(yaw_deg) / 2), math.cos(math.radians(yaw_deg) / 2)
    # (0, 0, s, c) * (x, y, z, w)
    return (c * x - s * y, c * y + s * x, c * z + s * w, c * w - s * z)
