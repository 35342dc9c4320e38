"""What boxes tell before tracks are asked: which count, their rays, sizes, the ground under them, and their ranges.

None of it needs more than the drive's ground so far, so several timesteps are looked at together, as one set of
arrays. What is reckoned of a box must not depend on how many others stand beside it in these: operations are
elementwise, and sums go term by term or over what belongs to one timestep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from perception_batch.assignment import IntArray
from perception_batch.calibration import FloatArray, Rig
from perception_batch.config import CameraConfig, FuseConfig
from perception_batch.fusion.boxes import Boxes, BoxSelector, Selection
from perception_batch.fusion.class_table import ClassTable
from perception_batch.fusion.cues import Cues, read_cues
from perception_batch.fusion.extent import Spans
from perception_batch.fusion.fuser import Seen
from perception_batch.fusion.ground import Ground, GroundEstimator, find_ground
from perception_batch.fusion.groups import FlagArray
from perception_batch.fusion.images import ImageFrames
from perception_batch.fusion.lens import BoxRays
from perception_batch.fusion.position import Sketch, Stance, sketch, stand
from perception_batch.fusion.ranges import Ranges, find_ranges
from perception_batch.fusion.sizes import Sizes
from perception_batch.fusion.surface import GroundUnder, SurfaceEstimator, flat_under
from perception_batch.types import SuppressedReason

_GROUND_SCORE = 0.5  # boxes that teach the ground's height are this sure ...
_GROUND_HEIGHT_PX = 20.0  # ... and this high


@dataclass(frozen=True, slots=True)
class Facts:
    """What a third cue is joined with: of N boxes and R rows, see `Placeable`."""

    rays: BoxRays
    """Of the boxes."""
    of_row: BoxRays
    """Of the rows, as all that follows."""
    sizes: Sizes
    cues: Cues
    ranges: Ranges

    def part(self, boxes: tuple[int, int], rows: tuple[int, int]) -> Facts:
        """Those from one to before another."""
        return Facts(
            self.rays.part(*boxes),
            self.of_row.part(*rows),
            self.sizes.part(*rows),
            self.cues.part(*rows),
            self.ranges.part(*rows),
        )


@dataclass(frozen=True, slots=True)
class Placeable:
    """N boxes whose rays and sizes are known, and R rows: every box once for each class that it may turn out to be."""

    boxes: Boxes
    camera: IntArray
    """(N,) number of the camera."""
    late_s: FloatArray
    """(N,) its frame's stamp less the timestep's, seconds; NaN where unknown."""
    row_as: IntArray
    """(N, K) row of box n taken for class k; -1 where it cannot be of class k."""
    own: IntArray
    """(N,) row of each box taken for its own class."""
    source: IntArray
    """(R,) the box of each row."""
    spans: Spans
    """Of the boxes."""
    about: Sketch
    """Of the boxes."""
    stance: Stance
    """Of the rows."""
    made_of: Callable[[], Facts]
    """All that is known of them."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one timestep tells before tracks are asked."""

    cameras: Sequence[str]
    """Those with an image, in alphabetical order."""
    detections: Sequence[int]
    """The first of all detections of each of these cameras, and how many there are."""
    boxes: Boxes
    """Those that count; their `rows` are among the timestep's detections."""
    reasons: list[SuppressedReason]
    """By detection, why it does not count; empty text: it does."""
    located: IntArray
    """Numbers of the boxes that can be placed; an unknown label has no size and no group, so no position."""
    placeable: Placeable | None
    """These; None where there are none."""


class Looker:
    """Looks at timesteps in order; its memory is what the drive told of the ground.

    That is two small regressions and, where neither the config, the log nor the mount tells the ground's height, a
    histogram.
    """

    def __init__(
        self,
        rig: Rig,
        classes: ClassTable,
        selector: BoxSelector,
        settings: FuseConfig,
        cameras: Mapping[str, CameraConfig],
        overlaps: FlagArray,
    ) -> None:
        """`overlaps`: (C, C) whether two cameras can see the same thing; the rest as of `open_fuser`."""
        self._classes = classes
        self._selector = selector
        self._settings = settings
        self._overlaps = overlaps
        self._mount = find_ground(rig, settings)
        estimated = self._mount.source == "unknown"
        self._histogram = GroundEstimator(settings.ground_sigma_m) if estimated else None
        self._surface = SurfaceEstimator(len(rig.cameras), settings) if settings.ground_memory_s > 0 else None
        self._learnt = False
        self._images = ImageFrames(rig, cameras)

    @property
    def ground(self) -> Ground:
        """Where the ground is in the base frame, as far as known now."""
        if self._surface is None or not self._learnt:
            return self._mount
        return self._surface.ground(self._mount)

    def look(self, steps: Sequence[Seen]) -> list[Look]:
        """What each of the drive's next timesteps tells."""
        chosen = self._selector.select([seen.detections for seen in steps])
        boxes, images = chosen.boxes, self._images.of(steps, chosen)
        image = np.arange(len(chosen.images)).repeat(np.diff(chosen.starts))
        camera = images.camera[image]
        known = camera >= 0
        placeable = known & (boxes.kind < len(self._classes))
        located = placeable.nonzero()[0]
        found: list[Placeable | None] = [None] * len(steps)
        if len(located):
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                rays = self._images.rays(boxes, images, known, placeable)
                if len(located) < len(boxes.rows):
                    boxes, camera, image = boxes.take(located), camera[located], image[located]
                starts = image.searchsorted(chosen.first_images).tolist()
                found = self._placeable(steps, boxes, rays, camera, images.late_s[image], starts)
        return self._split(len(steps), chosen, located, found)

    def _placeable(
        self,
        steps: Sequence[Seen],
        boxes: Boxes,
        rays: BoxRays,
        camera: IntArray,
        late_s: FloatArray,
        starts: Sequence[int],
    ) -> list[Placeable | None]:
        """By timestep; `starts`: the first of its boxes, and how many there are."""
        counts = np.diff(starts)
        step = np.arange(len(steps)).repeat(counts)
        row_as, source, kind = self._taken_for(boxes, camera, step, len(steps))
        own = row_as.ravel().take(np.arange(len(camera)) * row_as.shape[1] + boxes.kind)
        of_row, sizes = rays.take(source), self._classes.sizes.take(kind)
        cues = read_cues(of_row, sizes, self._settings)
        sure = (boxes.score >= _GROUND_SCORE) & (rays.height_px >= _GROUND_HEIGHT_PX)
        stamps = [seen.stamp_ns for seen in steps]
        under = self._under(rays, camera, cues, own, sure, starts, stamps)
        ranges = find_ranges(of_row, sizes, cues, under.take(source), self._settings)
        stance, about = stand(of_row, sizes, cues, ranges), sketch(rays, sizes, ranges, own)
        first_rows = source.searchsorted(starts).tolist()
        first_row = np.array(first_rows).take(step)
        own -= first_row
        row_as -= np.where(row_as >= 0, first_row[:, None], 0)
        source -= np.array(starts).take(step.take(source))
        spans, facts = Spans.of(rays), Facts(rays, of_row, sizes, cues, ranges)
        found: list[Placeable | None] = []
        for number in range(len(steps)):
            a, b, low, high = starts[number], starts[number + 1], first_rows[number], first_rows[number + 1]
            of_them = Placeable(
                boxes.part(a, b, 0),
                camera[a:b],
                late_s[a:b],
                row_as[a:b],
                own[a:b],
                source[low:high],
                spans.part(a, b),
                about.part(a, b),
                stance.part(low, high),
                partial(facts.part, (a, b), (low, high)),
            )
            found.append(of_them if a < b else None)
        return found

    def _taken_for(
        self, boxes: Boxes, camera: IntArray, step: IntArray, steps: int
    ) -> tuple[IntArray, IntArray, IntArray]:
        """Every box is placed once for each class that it may turn out to be: its own, or what a neighbour calls something.

        Returns:
            (N, K) row of box n taken for class k, -1 where it cannot be; the box of each row; the class of each row.
        """
        words, classes, cameras = boxes.words, len(self._classes), len(self._overlaps)
        view = step * cameras + camera
        called = np.zeros((steps * cameras, classes), bool)  # by each camera, anything
        called[view[words.box], words.kind] = True
        beside = self._overlaps @ called.reshape(steps, cameras, classes)  # what its neighbours do
        may = beside.reshape(-1, classes).take(view, 0)
        may &= self._classes.same_group.take(boxes.kind, 0)
        flat = may.ravel()
        flat[words.box * classes + words.kind] = True
        taken = flat.nonzero()[0]
        row_as = np.full(may.shape, -1)
        row_as.ravel()[taken] = np.arange(len(taken))
        source = taken // classes
        return row_as, source, taken - source * classes

    def _under(
        self,
        rays: BoxRays,
        camera: IntArray,
        cues: Cues,
        own: IntArray,
        sure: FlagArray,
        starts: Sequence[int],
        stamps_ns: Sequence[int | None],
    ) -> GroundUnder:
        """The ground under each box, after the boxes of its timestep had their say; `own`: their rows of `cues`."""
        mine = cues.take(own)
        parts = [(a, b, stamp) for a, b, stamp in zip(starts, starts[1:], stamps_ns, strict=False) if a < b]
        if self._histogram is None:
            return self._under_known(rays, camera, mine, sure, parts)
        out: list[GroundUnder] = []
        pitch = math.radians(self._settings.pitch_sigma_deg)
        for a, b, stamp in parts:
            told = mine.part(a, b).take(sure[a:b].nonzero()[0])
            sigma = np.sqrt(told.contact_var_m2) + pitch * (1 / told.u_height)
            self._histogram.add(told.contact_z_m, sigma**-2.0)
            self._mount = self._histogram.ground()
            one = rays.part(a, b), camera[a:b], mine.part(a, b), sure[a:b], [(0, b - a, stamp)]
            out.append(self._under_known(*one))
        return GroundUnder.joined(out)

    def _under_known(
        self,
        rays: BoxRays,
        camera: IntArray,
        cues: Cues,
        sure: FlagArray,
        parts: Sequence[tuple[int, int, int | None]],
    ) -> GroundUnder:
        """The same where the mount is known; `parts`: first box and end of each timestep with boxes, and its stamp."""
        if self._surface is None or not math.isfinite(self._mount.z_m):
            return flat_under(self._mount, len(sure), self._settings)
        self._learnt = True
        # Without a height of its own a box is asked about where the flat ground would have it.
        run = (rays.origin_m[2] - self._mount.z_m) / np.maximum(-rays.tan_low, 0.01)
        run = np.minimum(np.maximum(run, 1.0), self._settings.max_range_m)
        run = np.where(cues.has_height, 1 / cues.u_height, run)
        told = np.where(sure, cues.contact_z_m, np.nan)
        return self._surface.look(
            self._mount,
            [*(a for a, _, _ in parts), len(sure)],
            [stamp for _, _, stamp in parts],
            rays.toward,
            rays.origin_m,
            run,
            camera,
            told,
            cues.contact_var_m2,
        )

    def _split(
        self, steps: int, chosen: Selection, located: IntArray, found: Sequence[Placeable | None]
    ) -> list[Look]:
        """All of it, timestep by timestep."""
        out = []
        for number in range(steps):
            low, high = chosen.first_images[number], chosen.first_images[number + 1]
            first, stop = chosen.detections[low], chosen.detections[high]
            a, b = chosen.starts[low], chosen.starts[high]
            here = slice(*located.searchsorted((a, b)).tolist())
            out.append(
                Look(
                    [camera for _, camera in chosen.images[low:high]],
                    [row - first for row in chosen.detections[low : high + 1]],
                    chosen.boxes.part(a, b, first),
                    chosen.reasons[first:stop],
                    located[here] - a,
                    found[number],
                )
            )
        return out
