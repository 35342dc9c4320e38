"""Files of one video put behind one another, packet by packet: nothing is decoded or encoded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

from perception_batch.errors import WriteError, printable
from perception_batch.write.atomic import disk_errors


def join(parts: Sequence[tuple[Path, int]], path: Path, ticks_per_s: int) -> None:
    """Join files that `VideoWriter` made into one that plays from the first byte.

    Args:
        parts: each file, and when its first picture is shown, ticks; in order, at least one.
        path: the new file, under a name that is not yet its last.
        ticks_per_s: of the video's clock.

    Raises:
        WriteError: the disk is full or refuses, or the parts do not fit together; nothing is left then.
    """
    import av

    path.unlink(missing_ok=True)
    if len(parts) == 1 and parts[0][1] == 0:
        with suppress(OSError):  # a file system that knows no second name gets a copy
            os.link(parts[0][0], path)
            return
    try:
        with disk_errors(path):
            path.touch()
            with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as target:
                stream = None
                head: bytes | None = b""
                for part, start_ticks in parts:
                    with av.open(str(part)) as source:
                        own = source.streams.video[0]
                        if stream is None:
                            stream, head = _like(target, own), own.codec_context.extradata
                        _check(part, own, head)
                        _copy(own, start_ticks * Fraction(1, ticks_per_s), stream, target)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _like(target: Any, stream: Any) -> Any:
    """A new stream for the packets of another file's."""
    if hasattr(target, "add_stream_from_template"):
        made = target.add_stream_from_template(stream)
    else:  # PyAV before 14
        made = target.add_stream(template=stream)
    made.time_base = stream.time_base
    return made


def _check(part: Path, stream: Any, head: bytes | None) -> None:
    if stream.codec_context.extradata != head:
        raise WriteError(
            f"{printable(part)}: its encoder's settings are not those of the parts before it, so the video cannot be "
            "joined; give --set render.codec=libx264"
        )


def _copy(source: Any, start_s: Fraction, stream: Any, target: Any) -> None:
    """All packets of one file's stream, that much later."""
    start = start_s / source.time_base
    if start.denominator != 1:
        raise WriteError(f"the time {start_s} s is none in a file of {source.time_base} s a tick")
    for packet in source.container.demux(source):
        if packet.size == 0:  # PyAV's mark of the end
            continue
        packet.pts += int(start)
        packet.dts += int(start)
        packet.stream = stream
        target.mux(packet)
