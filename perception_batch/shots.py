"""Single images of a log on their way to the detector: decoded, and made into its input."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from perception_batch import flow
from perception_batch.config import RunConfig
from perception_batch.decode import decode_frame, picture_quality
from perception_batch.detect import prepare
from perception_batch.ego_motion import Step
from perception_batch.errors import DecodeError
from perception_batch.geometry import DetectorView
from perception_batch.looks import CameraViews, Crops, Look, MakeView
from perception_batch.stages import Profile
from perception_batch.types import EncodedFrame, Image, PictureQuality

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shot:
    """One image of a timestep, before and after decoding."""

    step: Step
    """Its timestep."""
    frame: EncodedFrame
    """The image as in the log."""
    is_last: bool
    """Whether it is the timestep's last."""


@dataclass(frozen=True, slots=True)
class ReadyShot:
    """One image as the detector wants it; a broken image has a reason and no pixels."""

    shot: Shot
    """Where it comes from."""
    view: DetectorView | None
    """How it was made from the original; None where broken."""
    pixels: Image
    """(H, W, 3) uint8 RGB, the detector's input; empty where broken."""
    reason: str
    """Why it cannot be decoded; empty where it was."""
    crops: tuple[Look, ...] = ()
    """Parts of it at full resolution (`detect.tiles`)."""
    quality: PictureQuality | None = None
    """How good the picture is; None where it was not decoded, or where that is stored or not asked for."""

    @property
    def size_bytes(self) -> int:
        """Bytes in memory."""
        crops = sum(crop.pixels.nbytes for crop in self.crops)
        return self.pixels.nbytes + crops + self.shot.frame.size_bytes

    def looks(self) -> tuple[Look, ...]:
        """All that the detector sees of it, the whole image first; nothing of a broken one, or where boxes are stored."""
        if self.view is None or self.shot.step.stored is not None:
            return ()
        return (Look(self.view, self.pixels), *self.crops)


def shots(source: Iterable[Step]) -> Iterator[Shot]:
    """The images of the timesteps, one by one, by camera name."""
    with flow.closed(source):
        for step in source:
            names = sorted(step.frame_set.frames)
            for name in names:
                yield Shot(step, step.frame_set.frames[name], name == names[-1])


class Preparer:
    """Decodes an image and makes the detector's input of it; called by several threads at once.

    Of an image whose boxes are stored that is done only where the video wants the tile (`wants_tile`, by timestep's stamp).
    How good a picture is, is measured where the tables want it (`judges`).
    """

    def __init__(
        self,
        config: RunConfig,
        make_view: MakeView,
        profile: Profile,
        crops: Crops | None = None,
        wants_tile: Callable[[int], bool] = lambda _: True,
        *,
        judges: bool = True,
    ) -> None:
        self._config = config
        self._judges = judges
        self.wants_tile = wants_tile
        """Of a timestep's stamp."""
        self.views = CameraViews(config, make_view, crops)
        self._decode = profile.stage("decode")
        self._letterbox = profile.stage("letterbox")
        self._warned: set[tuple[str, str]] = set()

    def view(self, camera: str, image_hw: tuple[int, int]) -> DetectorView:
        """How this camera's whole images of this size are shown to the detector; see `CameraViews.of`."""
        return self.views.of(camera, image_hw)[0]

    def __call__(self, shot: Shot) -> ReadyShot:
        stored, frame_set = shot.step.stored, shot.step.frame_set
        broken = {} if stored is None else stored.undecodable
        if shot.frame.camera in broken or (stored is not None and not self.wants_tile(frame_set.stamp_ns)):
            return ReadyShot(shot, None, np.zeros((0, 0, 3), np.uint8), broken.get(shot.frame.camera, ""))
        own_depth = self._config.camera(shot.frame.camera).bit_depth
        depth = self._config.decode.bit_depth if own_depth is None else own_depth
        try:
            with self._decode.measure():
                reduce_by = partial(self.views.reduction, shot.frame.camera)
                frame = decode_frame(shot.frame, self._config.read.max_image_mpx, depth, reduce_by)
                judged = self._judges and stored is None
                quality = picture_quality(frame.image, frame.original_hw) if judged else None
        except DecodeError as error:
            if (error.camera, error.reason) not in self._warned:  # one line a camera and reason, not a frame
                self._warned.add((error.camera, error.reason))
                _log.warning("%s (further ones are counted, not shown)", error)
            return ReadyShot(shot, None, np.zeros((0, 0, 3), np.uint8), error.reason)
        view, *crops = self.views.of(frame.camera, frame.original_hw)
        with self._letterbox.measure():
            pixels = prepare(frame.image, view)
            looks = tuple(Look(crop, prepare(frame.image, crop)) for crop in crops if stored is None)
        return ReadyShot(shot, view, pixels, "", looks, quality)
