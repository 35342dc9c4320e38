"""Tracks on the ground plane, forward in time: predicted, matched with the sightings of a timestep, and taught."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import Camera
from perception_batch.config import TrackConfig
from perception_batch.geometry import SE3
from perception_batch.ontology import Ontology
from perception_batch.track import matching, motion
from perception_batch.track.close_by import CloseBy, close_by
from perception_batch.track.hiding import doubting, hidden_below
from perception_batch.track.likeness import likeness, turns_px
from perception_batch.track.lives import Boxes, Life
from perception_batch.track.motion import PLACE, Beliefs, Lesson, Motion
from perception_batch.track.rejoining import may_rejoin, rejoin
from perception_batch.track.rows import IntArray, Rows
from perception_batch.track.sighting import Sightings, polar, sightings, turned_within_half
from perception_batch.track.smoothing import Moment
from perception_batch.track.teaching import hidden_rad2, teach
from perception_batch.types import FloatArray, FusedObject

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


@dataclass(frozen=True, slots=True)
class Followed:
    """One timestep as it was followed; rows are those of its `Moment`."""

    moment: Moment
    """The filtered tracks."""
    lives: tuple[Life, ...]
    """By row."""
    row_of: tuple[int, ...]
    """By object of the timestep: the row of its track, -1 for none."""
    lasting: FloatArray
    """(N, 2, 2) what does not average out of each track's last placed sighting, in polar; see `Sightings`."""
    adrift: npt.NDArray[np.bool_]
    """(N,) seen without a place for so long that nothing is known of it."""
    height_m: FloatArray
    """(N,) of the centres in the fixed frame."""
    height_m2: FloatArray
    """(N,) variances of `height_m`."""
    in_images: Mapping[int, Life] = field(default_factory=dict)
    """By object of the timestep: its track in the image of an uncalibrated camera."""

    def life_of(self, number: int) -> Life | None:
        """The track of an object of the timestep."""
        row = self.row_of[number]
        return self.lives[row] if row >= 0 else self.in_images.get(number)


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
        self._turns_px = turns_px(cameras)
        self._focal_px = {name: camera.intrinsics.fx_px for name, camera in cameras.items()}
        self._fixed = fixed_frame
        self._new_number = new_number
        self._lag_ns = round(settings.lag_s * 1e9)
        self._gap_ns = round(settings.max_gap_s * 1e9)
        self._stamp_ns: int | None = None
        self._rows = Rows.none()
        self._lost = Rows.none()  # tracks that ended of late, where they would be by now
        self._numbers: dict[str, int] = {}
        self._known_words: dict[str, tuple[int, int]] = {}

    def step(
        self, stamp_ns: int, objects: Sequence[FusedObject], boxes: Mapping[str, Boxes], odom_SE3_base: SE3
    ) -> Followed:
        """One timestep later."""
        survivors = self._survivors(stamp_ns)
        seconds = 0.0 if self._stamp_ns is None else max(0, stamp_ns - self._stamp_ns) * 1e-9
        self._stamp_ns = stamp_ns
        rows = self._rows = self._rows.take(survivors)
        rows.coast(seconds)
        self._lost.coast(seconds)
        for life in rows.lives:
            life.look(stamp_ns, boxes, self._lag_ns, self._settings)

        origin, heading = odom_SE3_base.translation_m[:2], _heading_rad(odom_SE3_base)
        placed = _placed(objects)
        hidden = hidden_below(objects, boxes)[placed]
        seen = doubting(sightings([objects[i] for i in placed], odom_SE3_base), hidden)
        width_rad = self._widths_rad([objects[i] for i in placed], boxes)
        row_of, far_off = self._match(stamp_ns, objects, placed, seen, width_rad, boxes, origin, heading)
        column_of = {i: k for k, i in enumerate(placed)}
        restarts = [
            i for i in far_off if i in column_of and stamp_ns - rows.lives[row_of[i]].placed_ns > _ADRIFT_NS
        ]
        taught = [i for i in placed if row_of[i] >= 0 and i not in restarts]
        columns = [column_of[i] for i in taught]
        near = self._near(objects, row_of, column_of, boxes, odom_SE3_base)
        lesson = teach(
            rows,
            np.array([row_of[i] for i in taught], np.int64),
            seen.take(columns),
            width_rad[columns],
            np.array([i in far_off for i in taught], bool),
            hidden[columns],
            near,
            origin,
            seconds,
        )
        for row in (*(row_of[i] for i in taught if i not in far_off), *near):
            rows.lives[row].placed_ns = stamp_ns

        left = [row_of[i] for i in restarts]
        fresh = [i for i in placed if row_of[i] < 0 or i in restarts]
        lives = [rows.lives[row_of[i]] if row_of[i] >= 0 else self._born(objects[i], stamp_ns) for i in fresh]
        for life in lives:
            life.placed_ns = stamp_ns
        for number, i in enumerate(fresh):
            row_of[i] = len(rows.lives) + number
        begun = [column_of[i] for i in fresh]
        self._begin(lives, seen.take(begun), width_rad[begun], origin)
        if left:
            survivors, lesson, row_of = self._without(left, survivors, lesson, row_of)
        return self._note(stamp_ns, objects, boxes, row_of, Moment(self._rows.beliefs, lesson, seconds, survivors),
                          origin, heading)  # fmt: skip

    def end(self) -> None:
        """No track goes on."""
        for life in self._rows.lives:
            life.end(life.born_ns, self._lag_ns, self._settings, cut=True)

    def ahead(self, stamp_ns: int) -> tuple[Beliefs, tuple[Life, ...], FloatArray, FloatArray]:
        """Beliefs at a later time, of tracks seen twice at least and lately; lives, heights, variances of these."""
        useful = [
            i
            for i, life in enumerate(self._rows.lives)
            if life.sightings > 1 and stamp_ns - life.placed_ns <= _ADRIFT_NS and life.verdict != "ghost"
        ]
        rows = self._rows.take(np.array(useful, np.int64))
        seconds = max(0, stamp_ns - (self._stamp_ns or stamp_ns)) * 1e-9
        rows.coast(seconds)
        return rows.beliefs, tuple(rows.lives), rows.height_m, rows.height_m2

    # -- who is there -----------------------------------------------------------------------------------------

    def _survivors(self, stamp_ns: int) -> IntArray:
        """Rows of tracks that are neither ghosts nor unseen for too long."""
        keep, gone = [], []
        period_ns = 0 if self._stamp_ns is None else stamp_ns - self._stamp_ns
        for row, life in enumerate(self._rows.lives):
            known_ns = life.seen_ns[-1] - life.born_ns
            patience_ns = min(self._gap_ns, max(_PATIENCE_NS, 2 * period_ns) + round(_TRUST * known_ns))
            if life.verdict == "ghost" or life.later is not None or stamp_ns - life.seen_ns[-1] > patience_ns:
                life.end(stamp_ns, self._lag_ns, self._settings, cut=False)
                gone.append(row)
            else:
                keep.append(row)
        if self._lag_ns and (gone or self._lost.lives):
            lost = self._lost.append(self._rows.take(np.array(gone, np.int64))) if gone else self._lost
            first_ns = stamp_ns - self._lag_ns
            stay = [k for k, life in enumerate(lost.lives) if may_rejoin(life, first_ns, self._gap_ns)]
            self._lost = lost if len(stay) == len(lost.lives) else lost.take(np.array(stay, np.int64))
        return np.array(keep, np.int64)

    def _born(self, item: FusedObject, stamp_ns: int) -> Life:
        return Life(self._new_number(), group_of(self._ontology, item.label), stamp_ns)

    def _begin(self, lives: list[Life], seen: Sightings, width_rad: FloatArray, origin_m: FloatArray) -> None:
        """Append rows for first sightings."""
        if not lives:
            return
        motions = [self._motion(life.group) for life in lives]
        self._rows = self._rows.append(
            Rows(
                motion.begin(seen, origin_m, np.array([m.speed_mps for m in motions])),
                lives,
                np.array([(m.jerkiness_at_rest, m.jerkiness) for m in motions]),
                np.array([self._number(life.group) for life in lives], np.int64),
                seen.lasting,
                np.zeros(len(lives)),
                seen.height_m,
                seen.height_m2,
                width_rad * np.exp(seen.polar[:, 0]),
            )
        )

    def _without(
        self, gone: list[int], survivors: IntArray, lesson: Lesson, row_of: list[int]
    ) -> tuple[IntArray, Lesson, list[int]]:
        """Take out rows whose tracks go on in a row that begins here."""
        keep = np.ones(len(self._rows.lives), bool)
        keep[gone] = False
        rows = np.flatnonzero(keep)
        known = rows[rows < len(survivors)]
        number = np.cumsum(keep) - 1
        self._rows = self._rows.take(rows)
        left = Lesson(lesson.keep[known], lesson.information[known], lesson.pull[known])
        return survivors[known], left, [int(number[row]) if row >= 0 else -1 for row in row_of]

    def _note(
        self,
        stamp_ns: int,
        objects: Sequence[FusedObject],
        boxes: Mapping[str, Boxes],
        row_of: list[int],
        moment: Moment,
        origin_m: FloatArray,
        heading_rad: float,
    ) -> Followed:
        """Write down what was seen of whom, and what is known now."""
        rows = self._rows
        for item, row in zip(objects, row_of, strict=True):
            if row >= 0:
                rows.lives[row].see(stamp_ns, item, boxes)
        if self._lag_ns:
            rejoin(stamp_ns, rows, self._lost, origin_m, self._lag_ns, self._gap_ns)
        for life in rows.lives:
            if life.verdict != "real":
                life.judge(stamp_ns, self._lag_ns, self._settings)
        hit = np.array([row for row in row_of if row >= 0], np.int64)
        rows.bearing_rad[hit] = polar(rows.beliefs.mean[hit, PLACE], origin_m)[:, 1] - heading_rad
        # The next timestep takes copies of rows before it changes them, so these may be kept as they are.
        return Followed(
            Moment(rows.beliefs, moment.lesson, moment.seconds, moment.survivors),
            tuple(rows.lives),
            tuple(row_of),
            rows.lasting,
            np.array([stamp_ns - life.placed_ns > _ADRIFT_NS for life in rows.lives], bool),
            rows.height_m,
            rows.height_m2,
        )

    def _motion(self, group: str) -> Motion:
        own = _MOTIONS.get(group, _OTHER)
        if self._fixed:
            return own
        return Motion(
            max(own.speed_mps, _UNSTEADY_BASE.speed_mps),
            max(own.jerkiness_at_rest, _UNSTEADY_BASE.jerkiness_at_rest),
            max(own.jerkiness, _UNSTEADY_BASE.jerkiness),
        )

    def _number(self, word: str) -> int:
        return self._numbers.setdefault(word, len(self._numbers))

    def _words(self, label: str) -> tuple[int, int]:
        """Numbers of a label's group and of the label."""
        known = self._known_words.get(label)
        if known is None:
            group = group_of(self._ontology, label)
            known = self._known_words[label] = self._number(group), self._number(label)
        return known

    def _near(
        self,
        objects: Sequence[FusedObject],
        row_of: list[int],
        placed: Container[int],
        boxes: Mapping[str, Boxes],
        odom_SE3_base: SE3,
    ) -> dict[int, CloseBy]:
        """By row, what is known without a place from fusion."""
        found = {}
        for i, row in enumerate(row_of):
            if row >= 0 and i not in placed:
                height_m = float(self._rows.height_m[row])
                where = close_by(objects[i], height_m, boxes, self._cameras, odom_SE3_base)
                if where is not None:
                    found[row] = where
        return found

    def _widths_rad(self, objects: Sequence[FusedObject], boxes: Mapping[str, Boxes]) -> FloatArray:
        """(M,) how wide objects look, about, to the camera that shows most of them."""
        focal_px = self._focal_px
        widest = []
        for item in objects:
            width = 0.0
            for o in item.observations:
                left, _, right, _ = boxes[o.camera][o.detection].tolist()
                width = max(width, (right - left) / focal_px.get(o.camera, math.inf))
            widest.append(width)
        return np.array(widest)

    # -- which sighting is which ------------------------------------------------------------------------------

    def _match(
        self,
        stamp_ns: int,
        objects: Sequence[FusedObject],
        placed: list[int],
        seen: Sightings,
        width_rad: FloatArray,
        boxes: Mapping[str, Boxes],
        origin_m: FloatArray,
        heading_rad: float,
    ) -> tuple[list[int], set[int]]:
        """Rows of objects, -1 for none, and which objects are known by the image alone, their place being elsewhere.

        Sure objects choose first, then the others among what is left.
        """
        rows = self._rows
        row_of = [-1] * len(objects)
        if not objects or not rows.lives:
            return row_of, set()
        beliefs = motion.in_polar(rows.beliefs, origin_m)
        distance2 = np.full((len(rows.lives), len(objects)), np.inf)
        room = np.zeros(distance2.shape)
        distance2[:, placed], room[:, placed] = matching.distances2(
            beliefs, seen, hidden_rad2(rows.width_m[:, None], beliefs.mean[:, None, 0], width_rad)
        )
        farther = np.full(distance2.shape, np.nan)
        farther[:, placed] = matching.farther(beliefs, seen)
        turned = turned_within_half(beliefs.mean[:, 1] - heading_rad - rows.bearing_rad)
        alike = likeness(stamp_ns, rows.lives, turned, objects, boxes, self._turns_px)
        cost = matching.costs(distance2, farther, alike, self._settings.gate_sigma)
        of_objects = [self._words(item.label) for item in objects]
        of_group = np.array([group for group, _ in of_objects], np.int64)
        cost[rows.group[:, None] != of_group[None, :]] = np.inf
        labels = np.array([label for _, label in of_objects], np.int64)
        own = np.array([self._words(life.label)[1] for life in rows.lives], np.int64)
        cost += matching.relabelled(own, labels) + room
        sure = np.array([item.score >= _SURE for item in objects])
        left = np.ones(len(rows.lives), bool)
        for turn in (sure, ~sure):
            columns = np.flatnonzero(turn)
            free = np.flatnonzero(left)
            matched, which = matching.assign(cost[np.ix_(free, columns)], self._settings.gate_sigma)
            left[free[matched]] = False
            for row, column in zip(free[matched].tolist(), columns[which].tolist(), strict=True):
                row_of[column] = row
        limit = self._settings.gate_sigma**2
        far_off = {i for i, row in enumerate(row_of) if row >= 0 and distance2[row, i] > limit}
        return row_of, far_off


def group_of(ontology: Ontology, label: str) -> str:
    """Class group of a label; one that the ontology does not know is its own, unlike any name of a config."""
    entry = ontology.find(label)
    return entry.group if entry is not None else f"\0{label}"


def _placed(objects: Sequence[FusedObject]) -> list[int]:
    """Which objects' positions say where they are; nothing stands within the own vehicle."""
    if not objects:
        return []
    position = np.concatenate([item.position_m for item in objects]).reshape(-1, 3)
    x, y = position[:, 0], position[:, 1]
    # NaN is not farther away than anything.
    there = (x * x + y * y >= _OWN_M**2) & np.isfinite(position.sum(axis=1))
    found: list[int] = np.flatnonzero(there).tolist()
    return found


def _heading_rad(odom_SE3_base: SE3) -> float:
    """Direction of base x in the fixed frame."""
    forward = odom_SE3_base.rotation[:, 0]
    return math.atan2(float(forward[1]), float(forward[0]))
