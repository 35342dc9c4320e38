"""Several devices as one detector: ``detect.device: cuda:0,cuda:1``.

Each device has a detector and a queue of batches of its own. Batch k goes to device k modulo their number, never to
whichever is free: so a run gives the same bytes again even where the devices are of different makes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from perception_batch.config import DetectConfig
from perception_batch.detect import Detector, DetectorInfo
from perception_batch.errors import ModelError
from perception_batch.geometry import DetectorView
from perception_batch.types import Detections

Opener = Callable[[DetectConfig], Detector]


class SeveralDevices:
    """A `Detector` that stands for one on each device; `detect` itself uses the first."""

    def __init__(self, parts: Sequence[Detector]) -> None:
        self.parts = tuple(parts)
        """One a device, in the order of the settings."""

    @property
    def info(self) -> DetectorInfo:
        """Of the first, with the names of all devices; every device has as many copies as the first."""
        return replace(self.parts[0].info, device=",".join(part.info.device for part in self.parts))

    def view(
        self,
        image_hw: tuple[int, int],
        *,
        image_size: int | None = None,
        roi_px: tuple[int, int, int, int] | None = None,
        rotate_deg: int = 0,
    ) -> DetectorView:
        """The same for all; see `Detector`."""
        views = [
            part.view(image_hw, image_size=image_size, roi_px=roi_px, rotate_deg=rotate_deg)
            for part in self.parts
        ]
        return views[0]

    def detect(
        self, images: npt.NDArray[np.uint8], views: Sequence[DetectorView], keep_score: Sequence[float]
    ) -> list[Detections]:
        """By the first device; see `Detector`."""
        return self.parts[0].detect(images, views, keep_score)

    def use_batch_size(self, batch_size: int) -> None:
        """Of every device; see `Detector`."""
        for part in self.parts:
            part.use_batch_size(batch_size)

    def copy(self) -> Detector:
        """A copy of the first; see `Detector`."""
        return self.parts[0].copy()

    def close(self) -> None:
        """Free the devices, the last that was opened first."""
        with ExitStack() as stack:
            for part in self.parts:
                stack.callback(part.close)


def open_devices(settings: DetectConfig, opener: Opener) -> Detector:
    """The detector of the settings; for several devices one that stands for all.

    Args:
        settings: `device` may name several, with commas between.
        opener: opens the detector of one.

    Raises:
        ConfigError, ModelError: as the opener; or the devices would not run the model in one way.
    """
    names = settings.device.split(",")
    if len(names) == 1:
        return opener(settings)
    with ExitStack() as stack:
        parts: list[Detector] = []
        for name in names:
            parts.append(opener(settings.model_copy(update={"device": name})))
            stack.callback(parts[-1].close)
        forms = [(part.info.backend, part.info.precision, part.info.sha256) for part in parts]
        for name, form in zip(names, forms, strict=True):
            if form != forms[0]:
                raise ModelError(
                    f"detect.device {settings.device}: {name} would run the model by {form[0]} in {form[1]}, {names[0]} by "
                    f"{forms[0][0]} in {forms[0][1]}; set detect.backend and detect.precision to what all can do"
                )
        smallest = min(part.info.batch_size for part in parts)
        for part in parts:
            if part.info.batch_size != smallest:
                part.use_batch_size(smallest)
        stack.pop_all()
        return SeveralDevices(parts)


class KeptDetector:
    """A detector that several drives use one after another: opened for the first that asks, closed at the end.

    Example:
        >>> with KeptDetector(config.detect, open_detector) as kept:  # doctest: +SKIP
        ...     for job in jobs:
        ...         run_drive(job, kept=kept)
    """

    def __init__(self, settings: DetectConfig, opener: Opener) -> None:
        self._settings = settings
        self._opener = opener
        self._detector: Detector | None = None
        self._batch_size = 0

    def get(self) -> Detector:
        """The detector, as if it were opened now.

        Raises:
            ConfigError, ModelError: as the opener.
        """
        if self._detector is None:
            self._detector = open_devices(self._settings, self._opener)
            self._batch_size = self._detector.info.batch_size
        elif self._detector.info.batch_size != self._batch_size:  # as `auto` was settled for the drive before
            self._detector.use_batch_size(self._batch_size)
        return self._detector

    def forget(self) -> None:
        """Close it, as after an error that may be its own; the next drive opens a new one."""
        detector, self._detector = self._detector, None
        if detector is not None:
            detector.close()

    def __enter__(self) -> KeptDetector:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.forget()


def each_device(detector: Detector) -> tuple[Detector, ...]:
    """The detectors of the devices that one stands for."""
    return detector.parts if isinstance(detector, SeveralDevices) else (detector,)
