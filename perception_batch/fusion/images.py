"""The images of timesteps: what all boxes of one have alike, and the rays through their edges."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perception_batch.assignment import IntArray
from perception_batch.calibration import FloatArray, Intrinsics, Rig
from perception_batch.config import CameraConfig
from perception_batch.errors import printable
from perception_batch.fusion.boxes import Boxes, Selection
from perception_batch.fusion.fuser import Seen
from perception_batch.fusion.groups import FlagArray
from perception_batch.fusion.lens import BoxRays, ImageFrame, RayTables, box_rays
from perception_batch.fusion.suppress import low_edge_hidden
from perception_batch.geometry import SE3

logger = logging.getLogger(__name__)

_LENSES_KEPT = 64  # tables of rays, 0.2 MB each: a log may change lenses and image sizes with every frame


@dataclass(frozen=True, slots=True)
class Images:
    """I images of one or more timesteps."""

    camera: IntArray
    """(I,) number of the camera where its lens and pose are known and it has boxes; else -1."""
    late_s: FloatArray
    """(I,) the frame's stamp less the timestep's, seconds; NaN where unknown."""
    frames: list[ImageFrame]
    """Of those with a camera."""
    counts: list[int]
    """How many boxes each of these has."""
    hidden: FlagArray
    """(N,) of all boxes, whether the own vehicle hides the low edge."""


class ImageFrames:
    """Makes them; keeps the lenses that it has met."""

    def __init__(self, rig: Rig, cameras: Mapping[str, CameraConfig]) -> None:
        self._rig = rig
        self._cameras = cameras
        self._tables = RayTables()
        self._lenses: dict[tuple[str, tuple[int, int], Intrinsics], int | None] = {}
        # The last ones, by camera.
        self._frames: dict[str, tuple[SE3, Intrinsics | None, tuple[int, int], ImageFrame]] = {}
        self._unfit: set[str] = set()
        self._camera_number = {name: number for number, name in enumerate(sorted(rig.cameras))}

    def of(self, steps: Sequence[Seen], chosen: Selection) -> Images:
        """Those of the next timesteps, of which these boxes count."""
        if len(self._lenses) > max([_LENSES_KEPT, *(4 * len(seen.detections) for seen in steps)]):
            self._tables, self._lenses, self._frames = RayTables(), {}, {}
        count = len(chosen.images)
        out = Images(
            np.full(count, -1), np.full(count, np.nan), [], [], np.zeros(len(chosen.boxes.rows), bool)
        )
        for number, (step, name) in enumerate(chosen.images):
            seen, start, stop = steps[step], chosen.starts[number], chosen.starts[number + 1]
            if start == stop or name not in seen.base_now_SE3_camera:
                continue
            own = seen.lenses.get(name)
            frame = self._frame(name, seen.image_hw[name], seen.base_now_SE3_camera[name], own)
            if frame is None:
                continue
            out.frames.append(frame)
            out.counts.append(stop - start)
            out.camera[number] = self._camera_number[name]
            if seen.stamp_ns is not None and seen.frame_stamps_ns is not None:
                out.late_s[number] = (seen.frame_stamps_ns.get(name, seen.stamp_ns) - seen.stamp_ns) * 1e-9
            mask = self._cameras[name].mask if name in self._cameras else ()
            if mask:
                out.hidden[start:stop] = low_edge_hidden(chosen.boxes.xyxy[start:stop], frame.low, mask)
        return out

    def _frame(
        self, camera: str, hw: tuple[int, int], base_SE3_camera: SE3, own: Intrinsics | None
    ) -> ImageFrame | None:
        """What all boxes of this image have alike; None where the camera's lens is unknown or does not fit."""
        last = self._frames.get(camera)
        if last is not None and last[0] is base_SE3_camera and last[1] is own and last[2] == hw:
            return last[3]
        lens = self._lens(camera, hw, own)
        if lens is None:
            return None
        model = (own or self._rig.cameras[camera].intrinsics).model
        roi = self._cameras[camera].roi_px if camera in self._cameras else None
        frame = ImageFrame.of(base_SE3_camera, lens, model == "equidistant", roi or (0, 0, hw[1], hw[0]))
        self._frames[camera] = (base_SE3_camera, own, hw, frame)
        return frame

    def _lens(self, camera: str, hw: tuple[int, int], own: Intrinsics | None) -> int | None:
        """The camera's lens (`own`, else the rig's) for images of this size; None where it does not fit, said once."""
        if camera not in self._rig.cameras:
            return None
        lens = self._rig.cameras[camera].intrinsics if own is None else own
        key = camera, hw, lens
        if key not in self._lenses:
            number = None
            try:
                number = self._tables.add(
                    lens.scaled_to(hw[1], hw[0]) if (lens.height_px, lens.width_px) != hw else lens
                )
            except ValueError as error:
                if camera not in self._unfit:
                    self._unfit.add(camera)
                    logger.warning("camera %s: %s; its boxes get no position", printable(camera), error)
            self._lenses[key] = number
        return self._lenses[key]

    def rays(self, boxes: Boxes, images: Images, known: FlagArray, placeable: FlagArray) -> BoxRays:
        """Of the `placeable` boxes; those of `known` cameras may cover them."""
        seen = known.nonzero()[0]
        xyxy, hidden = boxes.xyxy.take(seen, 0), images.hidden.take(seen)
        rays = box_rays(xyxy, images.frames, images.counts, self._tables, hidden)
        return rays if placeable[seen].all() else rays.take(placeable[seen].nonzero()[0])
