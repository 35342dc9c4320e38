"""zstd and lz4 from files that may lie about their sizes: memory follows the bytes that come, not a claim."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import IO, Any

PIECE_BYTES = 1 << 20
"""Unpacked at a time, where a size cannot be trusted."""

AT_ONCE_BYTES = 64 << 20
"""Largest claimed size that is allocated before its bytes have come; chunks of a few MiB are usual."""

Bytes = bytes | bytearray | memoryview

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""RFC 8878, 3.1.1."""
LZ4_MAGIC = b"\x04\x22\x4d\x18"
"""LZ4 frame format 1.6."""


class UnpackError(ValueError):
    """Compressed data is damaged, or larger than allowed."""


def unpack_zstd(data: Bytes, size: int, limit: int) -> Bytes:
    """All that `data` unpacks to; where it is cut off, what the decompressor still yields.

    Args:
        data: one or more zstd frames.
        size: what it should unpack to, as somebody claims.
        limit: largest size that is unpacked.

    Raises:
        UnpackError: damaged, or more than `limit` bytes.
    """
    import zstandard

    try:
        if 0 < size <= min(limit, AT_ONCE_BYTES) and zstandard.frame_content_size(data) in (size, -1):
            out: bytes = zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
            if len(out) == size:
                return out
    except zstandard.ZstdError:
        pass  # cut off, perhaps: what a stream yields decides
    return _gathered(zstd_pieces(io.BytesIO(data)), limit)


def unpack_lz4(data: Bytes, size: int, limit: int) -> Bytes:
    """As `unpack_zstd`, for lz4 frames."""
    import lz4.frame  # type: ignore[import-untyped]

    if 0 < size <= min(limit, AT_ONCE_BYTES):
        decompressor: Any = lz4.frame.LZ4FrameDecompressor()
        try:
            out: bytes = decompressor.decompress(data, max_length=size)
            more = b"" if decompressor.eof else decompressor.decompress(b"", max_length=1)
        except RuntimeError:
            out, more = b"", b"?"  # the stream below says where it breaks
        if decompressor.eof and not more and len(out) == size:
            return out
    return _gathered(lz4_pieces(io.BytesIO(data)), limit)


def zstd_pieces(file: IO[bytes]) -> Iterator[bytes]:
    """What a zstd stream unpacks to, in pieces; where it is cut off, what came.

    Raises:
        UnpackError: damaged.
    """
    import zstandard

    with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True, closefd=False) as reader:
        try:
            while piece := reader.read1(PIECE_BYTES):  # at once, so that an error later takes nothing back
                yield piece
        except zstandard.ZstdError as error:
            raise UnpackError(f"zstd: {error}") from error


def lz4_pieces(file: IO[bytes]) -> Iterator[bytes]:
    """As `zstd_pieces`, for lz4 frames."""
    import lz4.frame

    data = file.read(PIECE_BYTES)
    while data:
        decompressor: Any = lz4.frame.LZ4FrameDecompressor()
        while not decompressor.eof:
            try:
                piece = decompressor.decompress(data, max_length=PIECE_BYTES)
            except RuntimeError as error:
                raise UnpackError(f"lz4: {error}") from error
            if piece:
                yield piece
            data = b""
            if not piece and not decompressor.eof:
                data = file.read(PIECE_BYTES)
                if not data:
                    return
        data = (decompressor.unused_data or b"") + file.read(PIECE_BYTES)


def _gathered(pieces: Iterator[bytes], limit: int) -> bytearray:
    out = bytearray()
    for piece in pieces:
        out += piece
        if len(out) > limit:
            raise UnpackError(f"more than {limit} bytes when unpacked, which is the limit")
    return out


UNPACKERS: dict[str, Callable[[Bytes, int, int], Bytes]] = {"zstd": unpack_zstd, "lz4": unpack_lz4}
"""By the name that MCAP gives them."""
