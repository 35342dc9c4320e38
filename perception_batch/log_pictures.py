"""What a log gives on its way to the timesteps, every video's packets already pictures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from perception_batch import flow
from perception_batch.config import RunConfig
from perception_batch.decode import VIDEO_CODECS, PacketCount, pictures
from perception_batch.types import EncodedFrame, LogItem

if TYPE_CHECKING:
    from perception_batch.read import FrameSource

IsStored = Callable[[int], bool]
"""Whether no picture of a video is wanted at a stamp."""
_log = logging.getLogger(__name__)


def decodable(
    source: FrameSource,
    selected: Sequence[str],
    span_ns: tuple[int | None, int | None],
    config: RunConfig,
    *,
    sweeps: bool = False,
    is_stored: Callable[[], IsStored | None] = lambda: None,
    on_other: Callable[[EncodedFrame], None] = lambda _: None,
) -> Iterator[LogItem]:
    """The log's items in their order; packets of video must be decoded in order, used or not.

    Args:
        source: the log.
        selected: names of cameras.
        span_ns: half-open range of stamps that is wanted, ns; None: no limit.
        config: settings.
        sweeps: see `FrameSource.stream`.
        is_stored: asked once, of a log with video: what `pictures` need not decode.
        on_other: see `pictures`.
    """
    cameras = source.head(selected).cameras.values()
    stored = is_stored() if any(camera.encoding in VIDEO_CODECS for camera in cameras) else None
    items = source.stream(selected, *span_ns, warm_up=True, sweeps=sweeps)
    limit_mpx, count = config.read.max_image_mpx, PacketCount()
    found = pictures(items, max_image_mpx=limit_mpx, is_stored=stored, on_other=on_other, count=count)
    with flow.closed(found):
        yield from found
    if count.decoded < count.came:
        _log.info("video: %d of %d packets were decoded", count.decoded, count.came)
