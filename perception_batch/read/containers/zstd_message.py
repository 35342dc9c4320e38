"""Messages that rosbag2 compressed one by one (``compression_mode: message``)."""

from __future__ import annotations

from perception_batch.read.containers.unpacking import ZSTD_MAGIC as MAGIC
from perception_batch.read.containers.unpacking import UnpackError, unpack_zstd

# No CDR message begins with these bytes: the first byte of its header is 0.
__all__ = ["MAGIC", "unpack"]


def unpack(data: object, max_bytes: int) -> bytes:
    """`data` itself, or what it unpacks to where it is zstd.

    Raises:
        ValueError: it is damaged, or larger than `max_bytes` when unpacked.
    """
    if not isinstance(data, bytes):  # sqlite columns hold what somebody put there
        raise ValueError(f"a message is {type(data).__name__}, not bytes")  # noqa: TRY004
    if data[:4] != MAGIC:
        return data
    import zstandard

    try:
        size = zstandard.frame_content_size(data)
    except zstandard.ZstdError as error:
        raise ValueError(f"a compressed message cannot be unpacked: {error}") from error
    if size > max_bytes:
        raise ValueError(f"a compressed message claims {size} bytes, the limit is {max_bytes}")
    try:
        out = bytes(unpack_zstd(data, size, max_bytes))
    except UnpackError as error:
        raise ValueError(f"a compressed message cannot be unpacked: {error}") from error
    if size > 0 and len(out) != size:
        raise ValueError(f"a compressed message is cut off: {len(out)} of {size} bytes")
    return out
