"""An image's views on their way through the detector: taken apart before it, put together after it.

A batch is filled with views (the whole image, and its crops where `detect.tiles` asks for them), whatever image they are
of; what is found goes back to the image by position.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from perception_batch.calibration import Rig
from perception_batch.config import RunConfig
from perception_batch.detect import DetectorInfo, horizon_points, lay_out_crops, merge_views, reduction
from perception_batch.errors import ConfigError, printable
from perception_batch.flow import closed
from perception_batch.geometry import DetectorView
from perception_batch.read import Head
from perception_batch.types import Detections, Image

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Look:
    """One view of an image, as the detector wants it."""

    view: DetectorView
    """How it was made from the original."""
    pixels: Image
    """(H, W, 3) uint8 RGB, the detector's input."""


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """A look and the image that it is of."""

    owner: T
    """The image."""
    look: Look | None
    """None where the image is broken: it then has this part alone."""
    is_last: bool
    """Whether it is the image's last."""


class MakeView(Protocol):
    """How images of one size are shown to the detector; see `Detector.view`."""

    def __call__(
        self,
        image_hw: tuple[int, int],
        *,
        image_size: int | None = None,
        roi_px: tuple[int, int, int, int] | None = None,
        rotate_deg: int = 0,
    ) -> DetectorView: ...


@dataclass(frozen=True, slots=True)
class Crops:
    """What the crops of `detect.tiles` depend on beside the settings."""

    stride: int
    """Of the model, px."""
    stretch: bool
    """Whether the model's inputs are squares of one size."""
    rig: Rig
    """Says where the horizon is."""

    @classmethod
    def of(cls, info: DetectorInfo, rig: Rig) -> Crops:
        """For one detector on one drive."""
        return cls(info.stride, info.family == "stretch", rig)


class CameraViews:
    """How each camera's images are shown to the detector; may be asked by several threads at once."""

    def __init__(self, config: RunConfig, make_view: MakeView, crops: Crops | None) -> None:
        self._config = config
        self._make_view = make_view
        self._crops = crops
        self._known: dict[tuple[str, tuple[int, int]], tuple[DetectorView, ...]] = {}

    def of(self, camera: str, image_hw: tuple[int, int]) -> tuple[DetectorView, ...]:
        """The whole image's, then its crops' (none without `Crops`).

        Raises:
            ConfigError: the camera's `roi_px` does not fit the image, or the model does not take a crop.
        """
        key = (camera, image_hw)
        if key not in self._known:
            try:
                self._known[key] = self._make(camera, image_hw)
            except ConfigError as error:
                raise ConfigError(f"cameras.{printable(camera)}: {error}") from None
        return self._known[key]

    def of_head(self, head: Head) -> list[DetectorView]:
        """Those of the images that a log's head shows, camera by camera.

        Raises:
            ConfigError: as `of`.
        """
        seen = [(name, (c.height_px, c.width_px)) for name, c in sorted(head.cameras.items())]
        return [view for name, image_hw in seen if all(image_hw) for view in self.of(name, image_hw)]

    def reduction(self, camera: str, image_hw: tuple[int, int]) -> int:
        """By how much images of this size may be scaled down when they are decoded: 1, 2, 4 or 8."""
        if not self._config.decode.reduced or self._config.detect.tiles != "none":
            return 1
        return reduction(self.of(camera, image_hw)[0])

    def _make(self, camera: str, image_hw: tuple[int, int]) -> tuple[DetectorView, ...]:
        own, how = self._config.camera(camera), self._config.detect.tiles
        whole = self._make_view(
            image_hw, image_size=own.image_size, roi_px=own.roi_px, rotate_deg=own.rotate_deg
        )
        if self._crops is None or how == "none":
            return (whole,)
        known = self._crops.rig.cameras.get(camera)
        found = lay_out_crops(
            whole,
            how,
            stride=self._crops.stride,
            stretch=self._crops.stretch,
            horizon_px=horizon_points(known, image_hw) if how == "horizon" else None,
        )
        try:
            crops = [
                self._make_view(
                    image_hw, image_size=crop.image_size, roi_px=crop.roi_px, rotate_deg=own.rotate_deg
                )
                for crop in found
            ]
        except ConfigError as error:
            x0, y0, x1, y1 = found[0].roi_px
            raise ConfigError(
                f"detect.tiles {how} makes crops of {x1 - x0}x{y1 - y0} px, at full resolution: {error}; or choose "
                "detect.tiles=horizon, whose crops are as large as the whole image's input"
            ) from None
        return (whole, *crops)


def parts(source: Iterable[T], looks_of: Callable[[T], Sequence[Look]]) -> Generator[Part[T], None, None]:
    """Every image's looks, one by one."""
    with closed(source):
        for owner in source:
            looks = looks_of(owner)
            if not looks:
                yield Part(owner, None, True)
            for number, look in enumerate(looks, 1):
                yield Part(owner, look, number == len(looks))


def whole_images(
    source: Iterable[tuple[Part[T], Detections | None]], max_detections: int
) -> Generator[tuple[T, Detections | None], None, None]:
    """Images again, each with the boxes of all its looks, merged; None for a broken one."""
    found: list[Detections] = []
    views: list[DetectorView] = []
    with closed(source):
        for part, boxes in source:
            if part.look is not None and boxes is not None:
                found.append(boxes)
                views.append(part.look.view)
            if part.is_last:
                yield part.owner, merge_views(found, views, max_detections) if found else None
                found, views = [], []
