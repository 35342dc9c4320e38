"""Messages that rosbag2 compressed one by one (``compression_mode: message``)."""

from __future__ import annotations

MAGIC = b"\x28\xb5\x2f\xfd"
"""RFC 8878, 3.1.1. No CDR message begins with these bytes: the first byte of its header is 0."""


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
        if size > max_bytes:
            raise ValueError(f"a compressed message claims {size} bytes, the limit is {max_bytes}")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=max_bytes)
    except zstandard.ZstdError as error:
        raise ValueError(f"a compressed message cannot be unpacked: {error}") from error
