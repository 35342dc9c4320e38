"""Pictures as cameras send them: still images, raw pixels, in-log video.

What a correct decoder gets back (measured bounds are in ``tests/simulate/test_encode.py``):

- ``png``, ``rgb8``: the picture, to the bit.
- ``bayer_rggb8``: one colour a pixel; the other two are the decoder's to interpolate. The values are moved a little
  (a step of least squares) so that a bilinear decoder gets nearest to the picture: 1 dB better than plain samples.
  Measured against the picture behind the optical low-pass filter that such a camera has (see `sensor`).
- ``nv12``: BT.601, limited range (what OpenCV and ROS take it for); brightness to within a level or two, colour
  averaged over blocks of two by two pixels (ITU-T H.273: chroma sample in the middle).
- ``jpeg``: baseline, 4:2:0 as OpenCV writes it.
- ``h264``, ``h265``: the same 4:2:0 picture, constant quality, one packet a picture: no B-frames, Annex B,
  parameter sets with every key frame, one key frame a second. One encoder thread: the same bytes every time.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from perception_batch.errors import WriteError
from perception_batch.simulate.settings import ImageFormat
from perception_batch.types import Image

Family = Literal["still", "raw", "video"]

_CRF = {"h264": 15, "h265": 15}
"""Constant quality at which noisy drawn pictures keep more than 35 dB."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One encoded picture."""

    family: Family
    """Which kind of message carries it."""
    encoding: str
    """As in the message: ``jpeg``, ``rgb8``, ``h264``."""
    width_px: int
    """Of the picture."""
    height_px: int
    """Of the picture."""
    step_bytes: int
    """Of raw pixels: bytes from row to row; else 0."""
    data: npt.NDArray[np.uint8]
    """(N,) the bytes."""

    @property
    def size_bytes(self) -> int:
        """Bytes in memory."""
        return self.data.nbytes


class Encoder(Protocol):
    """One camera's encoder: pictures must come in the order of their exposure."""

    def encode(self, image: Image) -> Picture:
        """(H, W, 3) uint8 RGB as the camera sends it."""


def open_encoder(
    image_format: ImageFormat, size_px: tuple[int, int], rate_hz: float, jpeg_quality: int
) -> Encoder:
    """The encoder for one camera.

    Raises:
        WriteError: the video encoder is not there or refuses.
    """
    if image_format in ("h264", "h265"):
        return _Video(image_format, size_px, rate_hz)
    return _Single(image_format, jpeg_quality)


class _Single:
    """Formats in which a picture knows nothing of the others."""

    def __init__(self, image_format: ImageFormat, jpeg_quality: int) -> None:
        self._format = image_format
        self._quality = jpeg_quality

    def encode(self, image: Image) -> Picture:
        height, width = image.shape[:2]
        if self._format in ("jpeg", "png"):
            return Picture(
                "still", self._format, width, height, 0, _still(image, self._format, self._quality)
            )
        if self._format == "rgb8":
            return Picture("raw", "rgb8", width, height, 3 * width, np.ascontiguousarray(image).reshape(-1))
        if self._format == "bayer_rggb8":
            return Picture("raw", "bayer_rggb8", width, height, width, mosaic_rggb(image).reshape(-1))
        return Picture("raw", "nv12", width, height, width, nv12(image))


def _still(image: Image, image_format: str, quality: int) -> npt.NDArray[np.uint8]:
    import cv2

    # Level 1 is as small as level 3 for noisy pictures, and three times faster.
    options = (
        [cv2.IMWRITE_JPEG_QUALITY, quality] if image_format == "jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    ok, data = cv2.imencode(".jpg" if image_format == "jpeg" else ".png", bgr, options)
    if not ok:
        raise WriteError(f"OpenCV cannot encode {image_format}; choose another --image")
    return np.asarray(data, np.uint8).reshape(-1)


_BILINEAR = (
    np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32) / 4,
    np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]], np.float32) / 4,
    np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32) / 4,
)
"""How a bilinear decoder spreads the samples of red, green and blue."""


def mosaic_rggb(image: Image) -> npt.NDArray[np.uint8]:
    """(H, W) samples under an RGGB filter that a bilinear decoder turns into nearly the (H, W, 3) picture.

    One step of conjugate gradients on least squares (Hestenes and Stiefel 1952), from the plain samples; the second
    would gain another tenth of a decibel. H and W even.
    """
    wanted = [np.ascontiguousarray(image[..., c], np.float32) for c in range(3)]
    plain = _filtered(wanted)
    error = [w - d for w, d in zip(wanted, _spread(plain), strict=True)]
    slope = _gathered(error)
    moved = _spread(slope)
    down = sum(float(np.vdot(m, m)) for m in moved)
    step = float(np.vdot(slope, slope)) / down if down > 0 else 0.0
    return np.clip(np.rint(plain + step * slope), 0, 255).astype(np.uint8)


_FILTERS = ((np.s_[0::2, 0::2],), (np.s_[0::2, 1::2], np.s_[1::2, 0::2]), (np.s_[1::2, 1::2],))
"""Where red, green and blue samples stand."""


def _filtered(planes: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """(H, W) of each pixel the plane that its filter lets through."""
    out = np.empty_like(planes[0])
    for plane, places in zip(planes, _FILTERS, strict=True):
        for place in places:
            out[place] = plane[place]
    return out


def _spread(samples: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    """Three (H, W) planes: what a bilinear decoder makes of the samples."""
    import cv2

    planes = []
    for places, kernel in zip(_FILTERS, _BILINEAR, strict=True):
        alone = np.zeros_like(samples)
        for place in places:
            alone[place] = samples[place]
        planes.append(
            np.asarray(cv2.filter2D(alone, -1, kernel, borderType=cv2.BORDER_REFLECT_101), np.float32)
        )
    return planes


def _gathered(planes: list[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """(H, W) the transpose of `_spread`, but for the outermost pixels."""
    import cv2

    border = cv2.BORDER_REFLECT_101
    return _filtered(
        [
            np.asarray(cv2.filter2D(plane, -1, kernel, borderType=border), np.float32)
            for plane, kernel in zip(planes, _BILINEAR, strict=True)
        ]
    )


def _planes(image: Image) -> tuple[Image, Image]:
    """(H, W) luma, and (H/2, W/2, 2) chroma U V of each block's mean colour; BT.601, limited range."""
    import cv2

    height, width = image.shape[:2]
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)[:height]
    # OpenCV takes the colour of one pixel of four; the mean is what the standard says, and 3 dB better.
    mean = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA).astype(np.float32)
    # ITU-R BT.601-7, 2.5: 8-bit U and V from R'G'B' 0..255.
    matrix = np.array([[-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]], np.float32) / 255
    chroma = cv2.transform(mean, matrix)
    return luma, np.clip(np.rint(chroma + 128), 0, 255).astype(np.uint8)


def nv12(image: Image) -> npt.NDArray[np.uint8]:
    """(H * W * 3 / 2,) the luma plane, then U and V in turn; H and W even."""
    luma, chroma = _planes(image)
    return np.concatenate([luma.reshape(-1), chroma.reshape(-1)])


class _Video:
    """In-log video of one camera."""

    def __init__(
        self, image_format: Literal["h264", "h265"], size_px: tuple[int, int], rate_hz: float
    ) -> None:
        import av

        self._av, self._format, self._size = av, image_format, size_px
        self._count = 0
        rate = Fraction(rate_hz).limit_denominator(1000)
        keyframes = max(1, round(rate_hz))
        try:
            codec: Any = av.CodecContext.create("libx264" if image_format == "h264" else "libx265", "w")
            codec.width, codec.height = size_px
            codec.pix_fmt = "yuv420p"
            codec.framerate, codec.time_base = rate, 1 / rate
            codec.gop_size = keyframes
            codec.max_b_frames = 0
            codec.thread_count = 1
            codec.options = _options(image_format, keyframes)
            codec.open()
        except (av.FFmpegError, ValueError) as error:
            raise WriteError(
                f"PyAV cannot encode {image_format} here ({error}); choose another --image"
            ) from error
        self._codec = codec

    def encode(self, image: Image) -> Picture:
        height, width = image.shape[:2]
        luma, chroma = _planes(image)
        rows = np.concatenate([luma.reshape(-1), chroma[..., 0].reshape(-1), chroma[..., 1].reshape(-1)])
        frame = self._av.VideoFrame.from_ndarray(rows.reshape(height * 3 // 2, width), format="yuv420p")
        frame.pts = self._count
        self._count += 1
        packets = self._codec.encode(frame)
        if len(packets) != 1:  # zero latency was asked for: a picture in, its packet out
            raise WriteError(f"the {self._format} encoder gave {len(packets)} packets for one picture")
        return Picture("video", self._format, width, height, 0, np.frombuffer(bytes(packets[0]), np.uint8))


def _options(image_format: str, keyframes: int) -> dict[str, str]:
    if image_format == "h264":
        params = f"keyint={keyframes}:min-keyint={keyframes}:scenecut=0:bframes=0:threads=1:annexb=1"
        params += ":repeat-headers=1:colormatrix=smpte170m:range=tv"
        return {
            "preset": "veryfast",
            "tune": "zerolatency",
            "crf": str(_CRF["h264"]),
            "x264-params": params,
        }
    params = f"keyint={keyframes}:min-keyint={keyframes}:scenecut=0:bframes=0:annexb=1:repeat-headers=1"
    params += ":open-gop=0:pools=none:frame-threads=1:wpp=0:info=0:log-level=none:colormatrix=smpte170m:range=limited"
    return {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "crf": str(_CRF["h265"]),
        "x265-params": params,
    }
