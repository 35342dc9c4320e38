"""Tracks on the ground plane, forward in time: predicted, matched with the sightings of a timestep, and taught."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from perception_batch.calibration import Camera
from perception_batch.columnar import FusedObjects, Predictions
from perception_batch.config import TrackConfig
from perception_batch.geometry import SE3
from perception_batch.ontology import Ontology
from perception_batch.track import matching, motion
from perception_batch.track.close_by import CloseBy, close_by
from perception_batch.track.hiding import doubt_ranges, hidden_below
from perception_batch.track.into_base import into_base
from perception_batch.track.likeness import Glimpses, likeness, turn_px
from perception_batch.track.lives import Boxes, Life
from perception_batch.track.motion import PLACE, Lesson, Motion
from perception_batch.track.rejoining import may_rejoin, rejoin, youngsters
from perception_batch.track.rows import GHOST, LABEL, NUMBER, OPEN, REAL, Rows
from perception_batch.track.shown import Shown, shown
from perception_batch.track.sighting import (
    BoolArray,
    IntArray,
    Sightings,
    Views,
    sightings,
    turned,
    turned_within_half,
)
from perception_batch.track.smoothing import Moment
from perception_batch.track.teaching import teach
from perception_batch.types import FloatArray, Fusion

_MOTIONS: Mapping[str, Motion] = {
    "vehicle": Motion(5.0, 0.2, 6.0),
    "person": Motion(1.0, 0.05, 0.3),
    "two_wheeler": Motion(3.0, 0.05, 1.5),
}
_OTHER = Motion(3.0, 0.05, 1.5)
_UNSTEADY_BASE = Motion(10.0, 20.0, 20.0)
"""Without ego motion things move as the vehicle turns: 30 m away by 6 m/s at 0.2 rad/s."""
_SURE = 0.5
"""Objects with at least this score choose their tracks first."""
_PATIENCE_NS = 250_000_000
"""How long a track that was seen once may stay unseen, where two timesteps are not longer ..."""
_TRUST = 0.5
"""... and by what share of the time that it is known this grows: boxes that come and go by chance make no tracks."""
_ADRIFT_NS = 1_000_000_000
"""How long a track's place may be guessed from its motion alone."""
_OWN_M = 1.0
"""No object's centre is nearer to the base frame's origin."""
_VERDICTS = {"open": OPEN, "weak": OPEN, "real": REAL, "ghost": GHOST}


@dataclass(frozen=True, slots=True)
class Followed:
    """One timestep as it was followed; its tracks are the columns of its `Moment`."""

    moment: Moment
    """The filtered tracks."""
    lives: Sequence[Life]
    """By track."""
    row_of: Sequence[int]
    """By object of the timestep: its track, -1 for none."""
    unseen: Sequence[int]
    """Tracks without an object."""
    lasting: FloatArray
    """(3, N) what does not average out of each track's last placed sighting, in polar; see `Sightings`."""
    adrift: BoolArray
    """(N,) seen without a place for so long that nothing is known of it."""
    height_m: FloatArray
    """(N,) of the centres in the fixed frame."""
    height_m2: FloatArray
    """(N,) variances of `height_m`."""
    in_images: Mapping[int, Life] = field(default_factory=dict)
    """By object of the timestep: its track in the image of an uncalibrated camera."""


class Follower:
    """All living tracks of one part of a drive: within it the fixed frame stays the same and nothing jumps."""

    def __init__(
        self,
        settings: TrackConfig,
        ontology: Ontology,
        cameras: Mapping[str, Camera],
        new_number: Callable[[], int],
        *,
        fixed_frame: bool,
    ) -> None:
        self._settings = settings
        self._ontology = ontology
        self._cameras = cameras
        self._fixed = fixed_frame
        self._new_number = new_number
        self._lag_ns = round(settings.lag_s * 1e9)
        self._gap_ns = round(settings.max_gap_s * 1e9)
        self._stamp_ns: int | None = None
        self._rows = Rows.none()
        self._unseen: list[int] = []  # tracks that the last timestep did not see
        self._ahead: tuple[int, Rows] | None = None  # the same at a later time, as soon as asked for
        self._lost = Rows.none()  # tracks that ended of late, where they would have been ...
        self._lost_ns = 0  # ... at this time
        self._groups: dict[str, int] = {}
        self._labels: dict[str, int] = {}
        self._label_names: list[str] = []  # by their numbers
        self._group_of_label = np.zeros(0, np.int64)
        self._glimpses = Glimpses.none(0, 0)
        self._camera_numbers: dict[str, int] = {}
        self._lenses_px = np.zeros((2, 0))  # by number of a camera: focal length, and how things turn

    def step(self, stamp_ns: int, fusion: Fusion, boxes: Mapping[str, Boxes], odom_SE3_base: SE3) -> Followed:
        """One timestep later."""
        objects = FusedObjects.of(fusion.objects)
        seconds = 0.0 if self._stamp_ns is None else max(0, stamp_ns - self._stamp_ns) * 1e-9
        gone = self._end_lives(stamp_ns)
        survivors = np.arange(len(self._rows))
        rows, self._ahead = self._later(stamp_ns, seconds), None
        if gone:
            survivors = np.delete(survivors, gone)
            rows, self._glimpses = rows.take(survivors), self._glimpses.take(survivors)
        self._rows, self._stamp_ns = rows, stamp_ns
        for row in (rows.verdict == OPEN).nonzero()[0].tolist():
            rows.lives[row].look(stamp_ns, boxes, self._lag_ns, self._settings)

        origin, heading = odom_SE3_base.translation_m[:2, None], _heading_rad(odom_SE3_base)
        views = Views.of(rows.beliefs.mean[PLACE], origin)
        images = self._shown(boxes, fusion)
        placed = _placed(objects.position_m)
        hidden = hidden_below(images, len(objects))
        seen = sightings(objects, placed.nonzero()[0], odom_SE3_base)
        doubt_ranges(seen, hidden)
        width_rad = images.widths_rad(len(objects), self._lenses_px[0])
        row_of, far_off = self._match(stamp_ns, objects, seen, width_rad, images, views, heading)
        known = row_of >= 0
        restart = far_off & placed
        if restart.any():
            restart &= stamp_ns - rows.placed_ns[row_of] > _ADRIFT_NS
        taught = (known & placed & ~restart).nonzero()[0]
        index, unranged = row_of[taught], far_off[taught]
        unplaced = (known & ~placed).nonzero()[0]
        near = self._near(objects, row_of, unplaced, boxes, odom_SE3_base) if len(unplaced) else {}
        lesson = teach(
            rows, index, seen.take(taught), width_rad[taught], unranged, hidden[taught], near, views, seconds
        )
        rows.placed_ns[index[~unranged]] = stamp_ns
        rows.placed_ns[list(near)] = stamp_ns

        fresh = (placed & (~known | restart)).nonzero()[0]
        if len(fresh):
            left = row_of[restart]
            lives = [
                rows.lives[row] if row >= 0 else self._born(objects.label[number], stamp_ns)
                for number, row in zip(fresh.tolist(), row_of[fresh].tolist(), strict=True)
            ]
            row_of[fresh] = len(rows) + np.arange(len(fresh))
            self._begin(stamp_ns, lives, seen.take(fresh), width_rad[fresh], origin)
            if len(left):
                survivors, lesson, row_of = self._without(left, survivors, lesson, row_of)
        moment = Moment(self._rows.beliefs, lesson, seconds, survivors)
        return self._note(stamp_ns, objects, images, row_of, moment, origin, heading)

    def end(self) -> None:
        """No track goes on."""
        for life in self._rows.lives:
            life.end(life.born_ns, self._lag_ns, self._settings, cut=True)

    def ahead(self, stamp_ns: int, odom_SE3_base: SE3) -> Predictions:
        """Tracks seen twice at least and lately, as they should be at a later time, where the vehicle is then."""
        rows = self._rows
        useful = (rows.placed_ns >= stamp_ns - _ADRIFT_NS) & (rows.seen_ns > rows.born_ns)
        useful &= rows.verdict != GHOST
        seconds = max(0, stamp_ns - (self._stamp_ns or stamp_ns)) * 1e-9
        which = useful.nonzero()[0]
        place_m, cover_m2, speed_mps = self._later(stamp_ns, seconds).places(which)
        told = into_base(place_m, cover_m2, speed_mps, [odom_SE3_base], [len(which)])
        number, label = rows.facts[[NUMBER, LABEL]].take(which, axis=1)
        return Predictions(number, list(map(self._label_names.__getitem__, label.tolist())), *told)

    # -- who is there -----------------------------------------------------------------------------------------

    def _later(self, stamp_ns: int, seconds: float) -> Rows:
        """All tracks at a later time: predictions ask for copies of some, the timestep itself takes it over."""
        if self._ahead is None or self._ahead[0] != stamp_ns:
            self._ahead = stamp_ns, self._rows.later(seconds)
        return self._ahead[1]

    def _end_lives(self, stamp_ns: int) -> list[int]:
        """Which tracks are ghosts, or unseen for too long, or go on in another one."""
        rows = self._rows
        period_ns = 0 if self._stamp_ns is None else stamp_ns - self._stamp_ns
        least_ns = max(_PATIENCE_NS, 2 * period_ns)
        may = range(len(rows)) if period_ns > self._gap_ns else self._unseen
        gone: list[int] = (rows.verdict == GHOST).nonzero()[0].tolist()
        for row in may:
            life = rows.lives[row]
            seen_ns = life.seen_ns[-1]
            over = life.later is not None or stamp_ns - seen_ns > self._gap_ns
            over = over or stamp_ns - seen_ns > least_ns + round(_TRUST * (seen_ns - life.born_ns))
            if over and life.verdict != "ghost":
                gone.append(row)
        gone.sort()
        for row in gone:
            rows.lives[row].end(stamp_ns, self._lag_ns, self._settings, cut=False)
        if self._lag_ns and (gone or self._lost.lives):
            first_ns = stamp_ns - self._lag_ns
            every = self._lost.lives
            stay = [k for k, life in enumerate(every) if may_rejoin(life, first_ns, self._gap_ns)]
            if len(stay) < len(every):
                self._lost = self._lost.take(np.array(stay, np.int64))
            lost = [row for row in gone if may_rejoin(rows.lives[row], first_ns, self._gap_ns)]
            if lost and self._stamp_ns is not None:
                self._lost = self._lost_at(self._stamp_ns).append(rows.take(np.array(lost)))
        return gone

    def _lost_at(self, stamp_ns: int) -> Rows:
        """Tracks that ended of late, where they would be."""
        if self._lost_ns != stamp_ns:
            self._lost = self._lost.later(max(0, stamp_ns - self._lost_ns) * 1e-9)
            self._lost_ns = stamp_ns
        return self._lost

    def _born(self, label: str, stamp_ns: int) -> Life:
        return Life(self._new_number(), group_of(self._ontology, label), stamp_ns)

    def _begin(
        self, stamp_ns: int, lives: list[Life], seen: Sightings, width_rad: FloatArray, origin_m: FloatArray
    ) -> None:
        """Append tracks of first sightings."""
        motions = [self._motion(life.group) for life in lives]
        speed_mps, *jerkiness = np.array([(m.speed_mps, m.jerkiness_at_rest, m.jerkiness) for m in motions]).T
        new = Rows.none(len(lives))
        new.lives = lives
        new.beliefs.table[:] = motion.begin(seen, origin_m, speed_mps).table
        new.jerkiness[:] = jerkiness
        new.lasting[:] = seen.lasting
        new.height_m[:], new.height_m2[:] = seen.height_m, seen.height_m2
        new.width_m[:] = width_rad * np.exp(seen.polar[0])
        new.group[:] = [self._groups[life.group] for life in lives]
        new.facts[NUMBER] = [life.number for life in lives]
        new.born_ns[:] = [life.born_ns for life in lives]
        new.placed_ns[:] = stamp_ns
        new.verdict[:] = [_VERDICTS[life.verdict] for life in lives]
        self._rows = self._rows.append(new)
        self._glimpses = self._glimpses.append(len(lives), len(self._camera_numbers))

    def _without(
        self, gone: IntArray, survivors: IntArray, lesson: Lesson, row_of: IntArray
    ) -> tuple[IntArray, Lesson, IntArray]:
        """Take out tracks that go on in one that begins here."""
        keep = np.ones(len(self._rows), bool)
        keep[gone] = False
        rows = keep.nonzero()[0]
        known = rows[rows < len(survivors)]
        number = keep.cumsum() - 1
        self._rows, self._glimpses = self._rows.take(rows), self._glimpses.take(rows)
        left = Lesson(lesson.table.take(known, axis=2))
        return survivors[known], left, np.where(row_of >= 0, number[row_of], -1)

    def _note(
        self,
        stamp_ns: int,
        objects: FusedObjects,
        images: Shown,
        row_of: IntArray,
        moment: Moment,
        origin_m: FloatArray,
        heading_rad: float,
    ) -> Followed:
        """Write down what was seen of whom, and what is known now."""
        rows = self._rows
        lives, told = rows.lives, row_of.tolist()
        changed = [
            row
            for row, label, score, seen in zip(
                told, objects.label, objects.score.tolist(), objects.observations, strict=True
            )
            if row >= 0 and lives[row].see(stamp_ns, label, score, seen)
        ]
        hit = row_of[row_of >= 0]
        rows.seen_ns[hit] = stamp_ns
        self._glimpses.see(stamp_ns, images, row_of)
        rejoined = self._rejoin(stamp_ns, origin_m)
        for row in (rows.verdict == OPEN).nonzero()[0].tolist():
            lives[row].judge(stamp_ns, self._lag_ns, self._settings)
            rows.verdict[row] = _VERDICTS[lives[row].verdict]
        changed += rejoined
        if changed:
            rows.label[changed] = self._labels_of([lives[row].label for row in changed])
        self._unseen = (rows.seen_ns < stamp_ns).nonzero()[0].tolist()
        x, y = rows.beliefs.mean[PLACE].take(hit, axis=1) - origin_m
        rows.bearing_rad[hit] = np.arctan2(y, x) - heading_rad
        # The next timestep takes copies of all columns before it changes them, so these may be kept as they are.
        return Followed(
            moment,
            lives,
            told,
            self._unseen,
            rows.lasting,
            stamp_ns - rows.placed_ns > _ADRIFT_NS,
            rows.height_m,
            rows.height_m2,
        )

    def _rejoin(self, stamp_ns: int, origin_m: FloatArray) -> list[int]:
        """Tell young tracks which older ones they are; which of them go on where an older one left off."""
        if not self._lag_ns:
            return []
        rows = self._rows
        young = youngsters(stamp_ns, rows, self._lag_ns)
        if not young:
            return []
        return rejoin(stamp_ns, rows, young, self._lost_at(stamp_ns), origin_m, self._gap_ns)

    def _motion(self, group: str) -> Motion:
        own = _MOTIONS.get(group, _OTHER)
        if self._fixed:
            return own
        return Motion(
            max(own.speed_mps, _UNSTEADY_BASE.speed_mps),
            max(own.jerkiness_at_rest, _UNSTEADY_BASE.jerkiness_at_rest),
            max(own.jerkiness, _UNSTEADY_BASE.jerkiness),
        )

    def _labels_of(self, labels: Sequence[str]) -> IntArray:
        """Their numbers."""
        known = self._labels
        for label in set(labels) - known.keys():
            known[label] = len(known)
            self._label_names.append(label)
            group = self._groups.setdefault(group_of(self._ontology, label), len(self._groups))
            self._group_of_label = np.append(self._group_of_label, group)
        return np.array(list(map(known.__getitem__, labels)), np.int64)

    def _shown(self, boxes: Mapping[str, Boxes], fusion: Fusion) -> Shown:
        """What the images show of objects; gives numbers to cameras that are new."""
        numbers = self._camera_numbers
        images = shown(boxes, fusion.object_of, numbers)
        if len(numbers) > self._lenses_px.shape[1]:
            cameras = [self._cameras.get(name) for name in numbers]
            lenses = [(c.intrinsics.fx_px, turn_px(c)) if c else (math.inf, 0.0) for c in cameras]
            self._lenses_px = np.array(lenses).T
            self._glimpses = self._glimpses.append(0, len(numbers))
        return images

    def _near(
        self,
        objects: FusedObjects,
        row_of: IntArray,
        unplaced: IntArray,
        boxes: Mapping[str, Boxes],
        odom_SE3_base: SE3,
    ) -> dict[int, CloseBy]:
        """By track, what is known of the `unplaced` objects without a place from fusion."""
        found = {}
        for i, row in zip(unplaced.tolist(), row_of[unplaced].tolist(), strict=True):
            foot_m = float(self._rows.height_m[row] - 0.5 * objects.size_lwh_m[i, 2])
            where = close_by(objects.observations[i], foot_m, boxes, self._cameras, odom_SE3_base)
            if where is not None:
                found[row] = where
        return found

    # -- which sighting is which ------------------------------------------------------------------------------

    def _match(
        self,
        stamp_ns: int,
        objects: FusedObjects,
        seen: Sightings,
        width_rad: FloatArray,
        images: Shown,
        views: Views,
        heading_rad: float,
    ) -> tuple[IntArray, BoolArray]:
        """Tracks of objects, -1 for none, and which objects are known by the image alone, their place being elsewhere.

        Sure objects choose first, then the others among what is left.
        """
        rows = self._rows
        row_of, far_off = np.full(len(objects), -1), np.zeros(len(objects), bool)
        labels = self._labels_of(objects.label)
        if not len(objects) or not rows.lives:
            return row_of, far_off
        expected = matching.Expected(
            views.polar,
            turned(views.slope, rows.beliefs.place_m2),
            rows.width_m / views.range_m,
            rows.group,
            rows.label,
        )
        moved_rad = turned_within_half(views.polar[1] - heading_rad - rows.bearing_rad)
        alike = likeness(stamp_ns, self._glimpses, moved_rad, images, len(objects), self._lenses_px[1])
        kinds = self._group_of_label[labels], labels
        found = matching.pairs(expected, seen, width_rad, alike, kinds, self._settings.gate_sigma)
        sure = objects.score >= _SURE
        turn = sure[found.objects]
        for among in (turn.nonzero()[0], (~turn).nonzero()[0]):
            if not len(among):
                continue
            free = np.ones(len(rows) + 1, bool)
            free[row_of] = False  # of objects without a track it is the one too many
            chosen = matching.assign(found, among[free[found.tracks[among]]])
            which = found.objects[chosen]
            row_of[which], far_off[which] = found.tracks[chosen], ~found.gated[chosen]
        return row_of, far_off


def group_of(ontology: Ontology, label: str) -> str:
    """Class group of a label; one that the ontology does not know is its own, unlike any name of a config."""
    entry = ontology.find(label)
    return entry.group if entry is not None else f"\0{label}"


def _placed(position_m: FloatArray) -> BoolArray:
    """(M,) which of (M, 3) positions say where something is; nothing stands within the own vehicle."""
    x, y, z = position_m.T
    # NaN is not farther away than anything.
    there: BoolArray = (x * x + y * y >= _OWN_M**2) & np.isfinite(x + y + z)
    return there


def _heading_rad(odom_SE3_base: SE3) -> float:
    """Direction of base x in the fixed frame."""
    forward = odom_SE3_base.rotation[:, 0]
    return math.atan2(float(forward[1]), float(forward[0]))
