"""Ego masks found from the drive: boxes that stay where they are in the image while the vehicle moves.

A bonnet, a mirror or a trailer that the detector takes for a car is in the same place of the image all day. A car
that one follows is so for a while, then it grows, shrinks or turns off.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from perception_batch.calibration import FloatArray
from perception_batch.geometry import box_iou
from perception_batch.types import Detections

Polygon = tuple[tuple[float, float], ...]

_PLACES = 48  # places of one camera that are watched at once
_SAME_IOU = 0.75
_MOVED_M = 0.2  # between two looks, at least: a standing vehicle sees nothing but static boxes
_SHARE_AT_BORDER = 0.25  # of the looks since it was first seen in which a box on the image's border is there
_SHARE_INSIDE = 0.5  # the same for a box that no border touches
_LOOKS = 30
_STEADY = 0.008  # mean deviation of the edges, of the image's longer side: a followed car's box breathes more
_DRIFT = (
    0.002  # mean way from one look to the next, of the longer side: what passes by goes on in one direction
)
_BORDER = 0.02  # of the image's longer side
_MARGIN = 0.01  # by which the mask is larger than the boxes, of the image's longer side


@dataclass(frozen=True, slots=True)
class FoundMask:
    """A part of a camera's image that stayed as it was while the vehicle drove on, and what speaks for it."""

    polygon: Polygon
    """For ``cameras.<name>.mask``, px."""
    image_share: float
    """Of the image's area, 0..1."""
    seen_share: float
    """Of the images looked at since it was first seen, in how many a box was there, 0..1."""
    images: int
    """In how many that is."""
    driven_m: float
    """Way driven from the first of these to the last, m."""
    unsteady: float
    """Mean deviation of the boxes' edges, of the image's longer side; a followed car's is above 0.008."""


@dataclass(slots=True)
class _Place:
    """One place of the image where boxes were seen again and again."""

    box: FloatArray
    first_m: float
    last_m: float
    first_look: int
    count: int = 1
    deviation: float = 0.0
    last_box: FloatArray = field(default_factory=lambda: np.zeros(4))
    last_look: int = -1
    steps: int = 0
    drift: FloatArray = field(default_factory=lambda: np.zeros(4))


@dataclass(slots=True)
class _Watch:
    """What is known of one camera."""

    image_hw: tuple[int, int]
    driven_m: float = -np.inf
    looks: int = 0
    places: list[_Place] = field(default_factory=list)


class MaskFinder:
    """Watches a drive's detections; memory does not grow with the drive.

    Args:
        min_distance_m: how far the vehicle must have driven with a box in one place.
    """

    def __init__(self, min_distance_m: float = 200.0) -> None:
        self._min_distance_m = min_distance_m
        self._watches: dict[str, _Watch] = {}

    def add(self, camera: str, found: Detections, image_hw: tuple[int, int], driven_m: float) -> None:
        """Take in one image's boxes, of any score; images of a camera come in order of time.

        Args:
            camera: its name.
            found: its boxes.
            image_hw: height and width of the image, px; where it changes, the camera is watched anew.
            driven_m: path length since the drive began; while it does not grow nothing is learnt.
        """
        watch = self._watches.get(camera)
        if watch is None or watch.image_hw != image_hw:
            watch = self._watches[camera] = _Watch(image_hw)
        if not driven_m >= watch.driven_m + _MOVED_M:  # also where it is unknown (NaN)
            return
        watch.driven_m = driven_m
        watch.looks += 1
        boxes = found.xyxy.astype(np.float64)
        places = watch.places
        overlap = box_iou(boxes, np.array([p.box for p in places]).reshape(-1, 4))
        taken: set[int] = set()
        for box, row in zip(boxes, overlap, strict=True):
            best = int(row.argmax()) if len(row) else -1
            if best < 0 or row[best] < _SAME_IOU:
                places.append(_Place(box, driven_m, driven_m, watch.looks))
            elif best not in taken:
                taken.add(best)
                self._again(places[best], box, driven_m, watch.looks)
        if len(places) > _PLACES:
            # What was seen often for its age stays; the newest get their chance.
            places.sort(key=lambda p: -(p.count + 3) / (watch.looks - p.first_look + 8))
            del places[_PLACES:]

    @staticmethod
    def _again(place: _Place, box: FloatArray, driven_m: float, look: int) -> None:
        place.count += 1
        place.last_m = driven_m
        step = 1 / min(place.count, 200)
        off = box - place.box
        place.deviation += step * (float(np.abs(off).mean()) - place.deviation)
        place.box = place.box + step * off
        if look == place.last_look + 1:
            place.steps += 1
            place.drift = place.drift + (box - place.last_box - place.drift) / min(place.steps, 200)
        place.last_box, place.last_look = box, look

    def masks(self) -> dict[str, tuple[Polygon, ...]]:
        """By camera, in alphabetical order, for those that have any: rectangles for ``cameras.<name>.mask``, px."""
        return {camera: tuple(mask.polygon for mask in masks) for camera, masks in self.found().items()}

    def found(self) -> dict[str, tuple[FoundMask, ...]]:
        """The same with what speaks for each."""
        out: dict[str, tuple[FoundMask, ...]] = {}
        for camera in sorted(self._watches):
            watch = self._watches[camera]
            masks = [
                _described(place, watch)
                for place in sorted(watch.places, key=lambda p: p.box.tolist())
                if self._is_own(place, watch)
            ]
            if masks:
                out[camera] = tuple(masks)
        return out

    def _is_own(self, place: _Place, watch: _Watch) -> bool:
        height, width = watch.image_hw
        size = max(height, width)
        x0, y0, x1, y1 = place.box.tolist()
        at_border = min(x0, y0, width - x1, height - y1) < _BORDER * size
        share = place.count / (watch.looks - place.first_look + 1)
        return (
            place.last_m - place.first_m >= self._min_distance_m
            and place.count >= _LOOKS
            and share >= (_SHARE_AT_BORDER if at_border else _SHARE_INSIDE)
            and place.deviation <= _STEADY * size
            and place.steps >= _LOOKS // 3
            and float(np.abs(place.drift).max()) <= _DRIFT * size
        )


def _rectangle(box: FloatArray, image_hw: tuple[int, int]) -> Polygon:
    """The box, a little larger, within the image; to a tenth of a pixel."""
    height, width = image_hw
    margin = _MARGIN * max(height, width)
    left, top, right, bottom = box.tolist()
    x0, y0 = round(max(0.0, left - margin), 1), round(max(0.0, top - margin), 1)
    x1, y1 = round(min(float(width), right + margin), 1), round(min(float(height), bottom + margin), 1)
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _described(place: _Place, watch: _Watch) -> FoundMask:
    polygon = _rectangle(place.box, watch.image_hw)
    (x0, y0), (x1, y1) = polygon[0], polygon[2]
    height, width = watch.image_hw
    return FoundMask(
        polygon,
        (x1 - x0) * (y1 - y0) / (width * height),
        place.count / (watch.looks - place.first_look + 1),
        place.count,
        place.last_m - place.first_m,
        place.deviation / max(height, width),
    )
