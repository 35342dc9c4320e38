"""Boxes of each image, in batches over cameras and timesteps, and back to timesteps."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from perception_batch import flow
from perception_batch.batches import ordered_batches
from perception_batch.config import RunConfig
from perception_batch.detect import Detector
from perception_batch.ego_motion import Step
from perception_batch.looks import Part, parts, whole_images
from perception_batch.render import Tile
from perception_batch.shots import ReadyShot
from perception_batch.stages import Profile
from perception_batch.types import Detections, PictureQuality


@dataclass(frozen=True, slots=True)
class DetectedStep:
    """A timestep with its boxes."""

    step: Step
    """The timestep."""
    detections: Mapping[str, Detections]
    """By camera, for those whose image was decoded."""
    image_hw: Mapping[str, tuple[int, int]]
    """By camera, for those whose image was decoded."""
    tiles: Mapping[str, Tile]
    """By camera: the small picture for the video; empty without one."""
    undecodable: Mapping[str, str]
    """By camera: the reason."""
    quality: Mapping[str, PictureQuality] = field(default_factory=dict)
    """By camera, for those whose image was decoded."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the tiles, and of the lidar's points."""
        return sum(tile.size_bytes for tile in self.tiles.values()) + self.step.sweep_bytes


def detected(
    source: Iterator[ReadyShot],
    detectors: Sequence[Detector],
    config: RunConfig,
    segment_of: Callable[[int], int],
    profile: Profile,
    lanes: int = 1,
) -> Iterator[tuple[ReadyShot, Detections | None]]:
    """Boxes of each image, in batches over cameras and timesteps that never cross a segment.

    What fills a batch are views: an image counts once, and once for each of its crops. Several detectors are copies of one; each works on a batch of its own. On several devices (`lanes`) they stand in turn:
    one of each device, then the next of each.
    """
    stage = profile.stage("detect")

    def detect(detector: Detector, batch: list[Part[ReadyShot]]) -> list[Detections]:
        looks = [part.look for part in batch if part.look is not None]
        keep = [
            config.detect.keep_score if own is None else own
            for own in (config.camera(part.owner.shot.frame.camera).keep_score for part in batch)
        ]
        with stage.measure(len(batch)):
            pixels = np.stack([look.pixels for look in looks])
            return detector.detect(pixels, [look.view for look in looks], keep)

    found = ordered_batches(
        [partial(detect, detector) for detector in detectors],
        parts(source, ReadyShot.looks),
        name="detect",
        size=detectors[0].info.batch_size,
        bucket=lambda part: None if part.look is None else part.look.view.input_hw,
        lanes=lanes,
        barrier=lambda part: segment_of(part.owner.shot.step.frame_set.stamp_ns),
    )
    return whole_images(found, config.detect.max_detections)


def detected_steps(
    source: Iterable[tuple[ReadyShot, Detections | None]], *, tiles: bool
) -> Generator[DetectedStep, None, None]:
    """Images and their boxes, back to timesteps."""
    boxes: dict[str, Detections] = {}
    sizes: dict[str, tuple[int, int]] = {}
    pictures: dict[str, Tile] = {}
    broken: dict[str, str] = {}
    quality: dict[str, PictureQuality] = {}
    with flow.closed(source):
        for ready, found in source:
            camera, stored = ready.shot.frame.camera, ready.shot.step.stored
            if stored is not None and camera in stored.detections:
                boxes[camera], sizes[camera] = stored.detections[camera], stored.image_hw[camera]
            elif ready.view is None or found is None:
                broken[camera] = ready.reason
            else:
                boxes[camera], sizes[camera] = found, ready.view.image_hw
            known = ready.quality if stored is None else stored.quality.get(camera)
            if known is not None:
                quality[camera] = known
            if tiles and ready.view is not None:
                pictures[camera] = Tile.of_input(ready.pixels, ready.view)
            if ready.shot.is_last:
                yield DetectedStep(ready.shot.step, boxes, sizes, pictures, broken, quality)
                boxes, sizes, pictures, broken, quality = {}, {}, {}, {}, {}
