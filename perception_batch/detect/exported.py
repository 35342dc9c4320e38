"""A detector that runs an exported model. Nothing here imports PyTorch or Ultralytics."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from perception_batch.config import DetectConfig
from perception_batch.detect import postprocess
from perception_batch.detect.detector import DetectorInfo
from perception_batch.detect.detector_input import check_batch, fit_view
from perception_batch.detect.facts import ExportedModel, ModelFacts
from perception_batch.errors import ConfigError, ModelError, printable
from perception_batch.geometry import DetectorView
from perception_batch.types import Detections

logger = logging.getLogger(__name__)


class BackendError(ModelError):
    """One library cannot make or run the model; another one may."""


class Network(Protocol):
    """An exported network in the library that runs it. One thread owns it."""

    def prepare(self, input_hw: tuple[int, int]) -> None:
        """Get ready for images of this size; may be called from any thread."""

    def outputs(self, images: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.floating[Any]]]:
        """The outputs of (N, H, W, 3) images in their order, some images at a time.

        Each is (n, ...) with the outputs of the next n images, or more, which are padding; it is valid until the
        next is asked for.

        Raises:
            RuntimeError: the library failed.
        """

    def use_part(self, part: int) -> None:
        """Images in one call from now on, where the library works on several."""

    def copy(self) -> Network:
        """Another one for another thread; the weights may be shared."""

    def close(self) -> None:
        """Free what the library holds."""


class ExportedDetector:
    """A detector over a `Network`. See the protocol `Detector`."""

    def __init__(
        self, network: Network, facts: ModelFacts, info: DetectorInfo, settings: DetectConfig
    ) -> None:
        self._network: Network | None = network
        self._facts = facts
        self._info = info
        self._settings = settings

    @property
    def info(self) -> DetectorInfo:
        """What was loaded."""
        return self._info

    def view(
        self,
        image_hw: tuple[int, int],
        *,
        image_size: int | None = None,
        roi_px: tuple[int, int, int, int] | None = None,
        rotate_deg: int = 0,
    ) -> DetectorView:
        """How images of one size become this detector's input; see `Detector`."""
        view = fit_view(
            image_hw,
            image_size=image_size or self._settings.image_size,
            stride=self._facts.stride,
            family=self._facts.family,
            roi_px=roi_px,
            rotate_deg=rotate_deg,
            only_hw=self._facts.input_hw,
        )
        if self._network is not None:
            self._network.prepare(view.input_hw)
        return view

    def detect(
        self,
        images: npt.NDArray[np.uint8],
        views: Sequence[DetectorView],
        keep_score: Sequence[float],
    ) -> list[Detections]:
        """Boxes of prepared images; see `Detector`. Each image's are found while the next ones are in the network."""
        if self._network is None:
            raise ValueError("the detector is closed")
        input_hw = check_batch(images, views, keep_score, self._info.batch_size)
        found: list[Detections] = []
        try:
            for output in self._network.outputs(np.ascontiguousarray(images)):
                part = slice(len(found), len(found) + len(output))
                rows = postprocess.select(
                    output,
                    self._facts.form,
                    keep_score[part],
                    input_hw=input_hw,
                    iou=self._settings.iou,
                    max_detections=self._settings.max_detections,
                )
                found += [
                    postprocess.to_detections(row, view) for row, view in zip(rows, views[part], strict=True)
                ]
        except RuntimeError as error:
            raise ModelError(
                f"{printable(self._info.path)} failed in {self._facts.backend} on {self._info.device} with images of "
                f"{input_hw[1]}x{input_hw[0]} px: {reason(error)}"
            ) from error
        if len(found) != len(images):
            raise ModelError(
                f"{printable(self._info.path)} gave outputs for {len(found)} images, {len(images)} were asked for"
            )
        return found

    def use_batch_size(self, batch_size: int) -> None:
        """Take at most so many images at a time from now on; see `Detector`."""
        if batch_size < 1 or 0 < self._facts.batch < batch_size:
            most = f" to {self._facts.batch}" if self._facts.batch else " on"
            raise ValueError(f"batches of 1{most} images are possible, got {batch_size}")
        if self._network is None:
            raise ValueError("the detector is closed")
        self._info = replace(self._info, batch_size=batch_size)
        self._network.use_part(batch_size)

    def copy(self) -> ExportedDetector:
        """The same network once more, for another thread; see `Detector`."""
        if self._network is None:
            raise ValueError("the detector is closed")
        return ExportedDetector(self._network.copy(), self._facts, self._info, self._settings)

    def close(self) -> None:
        """Free the device; the detector cannot be used after."""
        if self._network is not None:
            self._network.close()
        self._network = None


def check_wanted(model: ExportedModel, settings: DetectConfig) -> None:
    """Refuse an exported model that is not what the settings ask for.

    Raises:
        ConfigError: another backend or precision was asked for.
        ModelError: made from other weights than pinned, or it cannot give as many boxes as asked for.
    """
    facts, name = model.facts, printable(model.file)
    if settings.backend not in ("auto", facts.backend):
        raise ConfigError(
            f"{name} is a model for {facts.backend}, and detect.backend asks for {settings.backend}: leave "
            "detect.backend at auto, or name weights in .pt form"
        )
    runs_in_bf16 = settings.precision == "bf16" and (facts.backend, facts.precision) == ("openvino", "fp32")
    if settings.precision not in ("auto", facts.precision) and not runs_in_bf16:
        raise ConfigError(
            f"{name} was exported in {facts.precision}, and detect.precision asks for {settings.precision}: leave "
            "detect.precision at auto, or name another model"
        )
    pinned = settings.sha256 and settings.sha256.strip().lower()
    if pinned and pinned not in (facts.sha256, facts.files[model.file.name]):
        raise ModelError(
            f"{name} was made from weights with SHA-256 {facts.sha256}, detect.sha256 pins {printable(pinned)}: not "
            "the weights that were meant"
        )
    if 0 < facts.max_detections < settings.max_detections:
        raise ConfigError(
            f"{name} gives at most {facts.max_detections} boxes an image, and detect.max_detections asks for "
            f"{settings.max_detections}"
        )


def reason(error: BaseException) -> str:
    """The first line of a library's complaint, fit to be shown."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[-1] if lines else type(error).__name__)[:300]
