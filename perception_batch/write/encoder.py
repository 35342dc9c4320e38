"""Which video encoder there is, and how it is told what is wanted.

H.264 by NVENC where a graphics card really encodes a picture, else by libx264, else MPEG-4 part 2 (OpenCV's ``mp4v``, here by
PyAV, because OpenCV gives pictures numbers instead of times). Browsers play the first two.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from perception_batch.errors import WriteError, printable
from perception_batch.write.planes import BT709

CODECS = ("h264_nvenc", "libx264", "mpeg4")
"""In the order of preference of `auto`."""
PICTURES_BETWEEN_KEYS = 30
"""Seeking lands within 3 s at 10 Hz; a mosaic of all cameras rarely moves as a whole, so keys cost little."""
_TICKS_PER_S = {"h264_nvenc": 90_000, "libx264": 90_000, "mpeg4": 60_000}
"""Clock of presentation times: the 90 kHz of MPEG systems (ISO/IEC 13818-1), a tick of 11 µs. MPEG-4 part 2 holds the clock in
16 bits (ISO/IEC 14496-2), a tick of 17 µs."""
_MOST_QUANTISER = 51
"""Of H.264 in 8 bits (ITU-T H.264)."""
_LIGHT = {
    "superfast": ":subme=0:merange=4:scenecut=0:weightp=0:partitions=i4x4:8x8dct=0:cabac=0",
    "ultrafast": ":merange=4",
}
"""What is added to x264's two fastest presets, with which the quantiser is constant: it then need not look at pictures before it
encodes them. `superfast`, the usual one, also looks for motion in whole pixels and nearby only, knows blocks and transforms of one
size, and writes codes of variable length instead of arithmetic ones. Mosaics of four recordings at `crf` 24 cost 43 % less CPU for it
(ultrafast: 25 %), at the same likeness by SSIM within 0.002 and the same bytes within 7 %; one with much foliage 37 % more bytes, and likeness."""


class EncoderSettings(Protocol):
    """What this file takes of the section `render` of the settings."""

    @property
    def crf(self) -> int:
        """x264's constant rate factor, 0 (lossless) to 51; other encoders take it as their own scale's like."""

    @property
    def preset(self) -> str:
        """x264's preset, such as ``superfast``."""

    @property
    def codec(self) -> str:
        """``auto``, or one of `CODECS`."""


@dataclass(frozen=True, slots=True)
class MeanRate:
    """How many bits a video may have, where that is given instead of its quality."""

    bits_per_s: int
    """Over the whole of it."""
    pictures_per_s: Fraction
    """Over the whole of it; some encoders share the bits out by it."""


def ticks_per_s(codec: str) -> int:
    """Of an encoder's clock of presentation times."""
    return _TICKS_PER_S[codec]


def needed_codec(settings: EncoderSettings, size_wh: tuple[int, int]) -> str:
    """The encoder for pictures of this size.

    Raises:
        WriteError: none of those allowed is there.
    """
    codec = choose_codec(settings, size_wh)
    if codec is None:
        raise WriteError(_no_codec(settings.codec))
    return codec


def choose_codec(settings: EncoderSettings, size_wh: tuple[int, int]) -> str | None:
    """The encoder for pictures of this size; None where none of those allowed is there."""
    import av

    wanted = CODECS if settings.codec == "auto" else (settings.codec,)
    for codec in wanted:
        if codec not in av.codecs_available:
            continue
        if codec != "h264_nvenc" or _encodes(codec, size_wh):
            return codec
    return None


@lru_cache(maxsize=64)
def _encodes(codec: str, size_wh: tuple[int, int]) -> bool:
    """Whether it makes something of a picture: that a driver is named says little of the card and its licence."""
    import av

    width, height = size_wh
    try:
        context: Any = av.CodecContext.create(codec, "w")
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base = Fraction(1, 25)
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts, frame.time_base = 0, context.time_base
        return bool([*context.encode(frame), *context.encode(None)])
    except (av.FFmpegError, ValueError, OSError):
        return False


def add_stream(
    container: Any, codec: str, size_wh: tuple[int, int], settings: EncoderSettings, mean: MeanRate | None
) -> Any:
    """A stream of the opened container, its encoder opened too.

    Args:
        container: PyAV's.
        codec: from `choose_codec`.
        size_wh: width and height, px.
        settings: rate factor and preset.
        mean: a rate instead of the rate factor.

    Raises:
        av.FFmpegError: the encoder refuses.
    """
    stream = container.add_stream(codec, options=_options(codec, settings, mean.bits_per_s if mean else None))
    stream.width, stream.height = size_wh
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.thread_count = 1
    context.gop_size = PICTURES_BETWEEN_KEYS
    if mean is not None:
        context.bit_rate, context.framerate = mean.bits_per_s, mean.pictures_per_s
    stream.time_base = context.time_base = Fraction(1, ticks_per_s(codec))
    context.color_range = 1  # "tv", 16..235
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.open()
    return stream


def light_quantiser(crf: int) -> int:
    """The constant quantiser in place of a rate factor: with it streets take about as many bytes. 0 is lossless in both."""
    return min(crf + 1, _MOST_QUANTISER) if crf else 0


def stream_head(path: Path, size_wh: tuple[int, int], settings: EncoderSettings) -> bytes:
    """What a decoder is told before the first picture (H.264: parameter sets); the same for all files that can be joined.

    Args:
        path: of the video, for messages.
        size_wh: width and height, px.
        settings: of the video.

    Raises:
        WriteError: no encoder, or it refuses.
    """
    import av

    codec = needed_codec(settings, size_wh)
    with av.open(io.BytesIO(), "w", format="mp4") as nowhere:
        try:
            stream = add_stream(nowhere, codec, size_wh, settings, None)
        except av.FFmpegError as error:
            raise refusal(path, codec, size_wh, settings, error) from error
        return bytes(stream.codec_context.extradata or b"")


def refusal(
    path: Path, codec: str, size_wh: tuple[int, int], settings: EncoderSettings, error: Exception
) -> WriteError:
    """What to say where the encoder refuses."""
    return WriteError(
        f"{printable(path)}: the encoder {codec} refuses {size_wh[0]}x{size_wh[1]} with preset "
        f"{settings.preset}, crf {settings.crf}: {error}; change render.width_px"
    )


def _no_codec(wanted: str) -> str:
    if wanted in ("auto", "libx264"):
        return (
            "PyAV was built without libx264, so there is no video; install its wheel from PyPI (pip install "
            "--force-reinstall av) or run with --no-video"
        )
    return (
        f"render.codec {wanted} does not work here (no encoder of that name in PyAV, or no card that encodes); give "
        "--set render.codec=auto or libx264"
    )


def _options(codec: str, settings: EncoderSettings, bits_per_s: int | None) -> dict[str, str]:
    if codec == "libx264":
        threads = "threads=1:lookahead-threads=1:sliced-threads=0"
        options = {"preset": settings.preset, "bf": "0"}
        if bits_per_s is not None:
            return {**options, "x264-params": threads}
        if settings.preset not in _LIGHT:
            return {**options, "x264-params": threads, "crf": str(settings.crf)}
        more = {"x264-params": threads + _LIGHT[settings.preset], "qp": str(light_quantiser(settings.crf))}
        return {**options, **more}
    if codec == "h264_nvenc":
        options = {"preset": "p4", "bf": "0", "rc": "vbr", "forced-idr": "1"}
        return options if bits_per_s is not None else {**options, "cq": str(settings.crf), "b": "0"}
    if bits_per_s is not None:
        # Its mean rate alone is kept over minutes; a limit with half a second's room is kept at once.
        return {"bf": "0", "maxrate": str(bits_per_s), "bufsize": str(max(bits_per_s // 2, 20_000))}
    # Quantisers of MPEG-4 part 2 go from 1 to 31, x264's in six steps to the double: 24 is about 4.
    quantiser = str(min(max(round(2 ** ((settings.crf - 12) / 6)), 1), 31))
    return {"bf": "0", "qmin": quantiser, "qmax": quantiser}
