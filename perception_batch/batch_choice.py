"""`detect.batch_size: auto` of one drive: as the run that is resumed had it, as a benchmark found, or measured."""

from __future__ import annotations

import logging

from perception_batch.config import RunConfig
from perception_batch.detect import (
    Detector,
    batch_size_key,
    known_batch_size,
    measure_batch_size,
    remember_batch_size,
    smallest_near_best,
)
from perception_batch.job import OpenDrive
from perception_batch.looks import CameraViews, Crops
from perception_batch.write import Manifest

_log = logging.getLogger(__name__)


def settle_batch_size(
    detector: Detector, config: RunConfig, opened: OpenDrive, earlier: Manifest | None = None
) -> None:
    """Set the detector's batch size where the settings leave it open.

    Args:
        detector: freshly opened.
        config: the run's settings.
        opened: says what images there are.
        earlier: the run that is done again or resumed: on the same device its size is taken, for the same bytes.
    """
    info = detector.info
    if config.detect.batch_size != "auto":
        return
    if earlier is not None and earlier.batch_size is not None and earlier.batch_size >= 1:
        same = (earlier.device, earlier.model.get("backend"), earlier.model.get("precision"))
        if same == (info.device, info.backend, info.precision):
            _use(detector, earlier.batch_size, "as recorded in run.json")
            return
    views = CameraViews(config, detector.view, Crops.of(info, opened.rig))
    shapes = [view.input_hw for view in views.of_head(opened.head)]
    if not shapes:
        return
    key = batch_size_key(info, shapes)
    known = known_batch_size(key)
    if known is not None:
        _use(detector, known, "found before, kept in the cache")
    elif info.device != "cpu":
        usual = max(sorted(set(shapes)), key=shapes.count)
        default = info.batch_size
        rates = measure_batch_size(detector, usual)
        size = smallest_near_best(rates) if rates else default
        if rates:
            remember_batch_size(key, size, rates, "measurement")
        _use(detector, size, "measured")


def _use(detector: Detector, size: int, why: str) -> None:
    try:
        detector.use_batch_size(size)
    except ValueError:  # more than an engine takes: it was built anew since
        return
    _log.info("detect.batch_size auto: %d, %s", size, why)
