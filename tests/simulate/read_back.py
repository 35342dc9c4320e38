"""Reads simulated logs with rosbags, mcap and PyAV only: the witness against which our own writers stand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


@dataclass
class Seen:
    """One message as a reader gives it."""

    topic: str
    log_ns: int
    kind: str
    message: Any
    raw: bytes

    @property
    def stamp_ns(self) -> int:
        m = self.message
        time = m.header.stamp if hasattr(m, "header") else getattr(m, "timestamp", getattr(m, "stamp", m))
        return (
            (time.sec * 10**9 + time.nanosec) if hasattr(time, "sec") else time.seconds * 10**9 + time.nanos
        )

    @property
    def data(self) -> bytes:
        return bytes(self.message.data)

    @property
    def is_picture(self) -> bool:
        return self.kind.split("/")[-1].split(".")[-1] in (
            "CompressedImage",
            "Image",
            "RawImage",
            "CompressedVideo",
        )

    @property
    def camera(self) -> str:
        return self.topic.split("/")[1]


def read_all(log: Path) -> list[Seen]:
    """Every message in the reader's order."""
    if log.suffix == ".mcap":
        return _foxglove(log)
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    with AnyReader([log], default_typestore=get_typestore(Stores.LATEST)) as reader:
        return [
            Seen(c.topic, log_ns, c.msgtype, reader.deserialize(raw, c.msgtype), bytes(raw))
            for c, log_ns, raw in reader.messages()
        ]


def _foxglove(log: Path) -> list[Seen]:
    from mcap.reader import make_reader
    from mcap_protobuf.decoder import DecoderFactory

    with log.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True, decoder_factories=[DecoderFactory()])
        return [
            Seen(channel.topic, message.log_time, schema.name, decoded, message.data)
            for schema, channel, message, decoded in reader.iter_decoded_messages()
        ]


def pictures(log: Path, camera: str) -> list[tuple[int, int, Image]]:
    """(stamp, log time, (H, W, 3) RGB) of each picture of a camera; video is decoded in the order of its stamps."""
    seen = [s for s in read_all(log) if s.is_picture and s.camera == camera]
    if seen and hasattr(seen[0].message, "format") and seen[0].message.format in ("h264", "h265"):
        seen.sort(key=lambda s: s.stamp_ns)
        images = decode_video([s.data for s in seen], seen[0].message.format)
        return [(s.stamp_ns, s.log_ns, i) for s, i in zip(seen, images, strict=True)]
    return [(s.stamp_ns, s.log_ns, decode(s.message)) for s in seen]


def decode(message: Any) -> Image:
    """A still or raw picture as RGB, by OpenCV."""
    data = np.frombuffer(bytes(message.data), np.uint8)
    if hasattr(message, "format"):
        assert message.format in ("jpeg", "png")
        assert bytes(data[:3]) == (b"\xff\xd8\xff" if message.format == "jpeg" else b"\x89PN")
        return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)  # type: ignore[return-value]
    h, w, step = message.height, message.width, message.step
    if message.encoding == "rgb8":
        assert step == 3 * w
        return data.reshape(h, w, 3)
    assert step == w
    if message.encoding == "nv12":
        return cv2.cvtColor(data.reshape(h * 3 // 2, w), cv2.COLOR_YUV2RGB_NV12)  # type: ignore[return-value]
    assert message.encoding == "bayer_rggb8"
    # OpenCV names a pattern by the second row's second and third pixel: rggb is its BG.
    return cv2.cvtColor(data.reshape(h, w), cv2.COLOR_BayerBG2RGB)  # type: ignore[return-value]


def decode_video(packets: list[bytes], codec: str) -> list[Image]:
    """All pictures of an Annex B stream, the decoder flushed at its end."""
    import av

    context = av.CodecContext.create({"h264": "h264", "h265": "hevc"}[codec], "r")
    frames = [f for p in packets for f in context.decode(av.Packet(p))]
    frames += context.decode(None)
    return [f.to_ndarray(format="rgb24") for f in frames]


def psnr_db(a: Image, b: Image) -> float:
    """Peak signal to noise."""
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))
