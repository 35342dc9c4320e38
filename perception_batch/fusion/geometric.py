"""The fuser: geometry, one timestep at a time, with the ground learnt from the drive and help from the tracks."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from perception_batch.assignment import IntArray
from perception_batch.calibration import FloatArray, Intrinsics, Rig
from perception_batch.columnar import Predictions
from perception_batch.config import CameraConfig, FuseConfig
from perception_batch.errors import printable
from perception_batch.fusion.associate import Candidates, associate
from perception_batch.fusion.boxes import Boxes, BoxSelector, Words
from perception_batch.fusion.class_doubt import mixed
from perception_batch.fusion.class_table import ClassTable
from perception_batch.fusion.fuser import Join, Seen
from perception_batch.fusion.ground import Ground, cameras_under
from perception_batch.fusion.groups import FlagArray, Groups, decided, in_doubt
from perception_batch.fusion.lidar_cue import Told, with_lidar
from perception_batch.fusion.looking import Facts, Look, Looker, Placeable
from perception_batch.fusion.objects import ObjectMaker, placed_groups
from perception_batch.fusion.overlap import overlapping
from perception_batch.fusion.placed import Places
from perception_batch.fusion.position import Views, locate, sketch, stand
from perception_batch.fusion.predicted import follow
from perception_batch.fusion.ranges import Ranges
from perception_batch.geometry import SE3
from perception_batch.ontology import Ontology
from perception_batch.types import Detections, Fusion, LidarRanges, Prediction

logger = logging.getLogger(__name__)


class GeometricFuser:
    """Objects from bearings, ground contact, box heights and class sizes; see `open_fuser`.

    Its memory is that of `Looker`.
    """

    def __init__(
        self,
        rig: Rig,
        ontology: Ontology,
        labels: Mapping[int, str],
        settings: FuseConfig,
        *,
        detect_score: float | Mapping[str, float],
        detect_classes: tuple[str, ...],
        cameras: Mapping[str, CameraConfig],
    ) -> None:
        self._settings = settings
        self._cameras = dict(cameras)
        self._selector = BoxSelector(
            ontology,
            dict(labels),
            self._cameras,
            detect_score=detect_score,
            detect_classes=detect_classes,
            duplicate_iou=settings.duplicate_iou,
        )
        self._maker = ObjectMaker(ontology, labels)
        self._classes = ClassTable.of(ontology)
        names = sorted(rig.cameras)
        self._limits_m = np.array([self._max_range(name) for name in names])
        self._overlaps = np.zeros((len(names),) * 2, bool)
        for pair in overlapping(rig):
            i, j = map(names.index, pair)
            self._overlaps[i, j] = self._overlaps[j, i] = True
        self._looker = Looker(rig, self._classes, self._selector, settings, self._cameras, self._overlaps)
        notes = cameras_under(rig, self._looker.ground)
        if rig.cameras:
            notes += [
                f"camera {printable(name)} is not calibrated ({printable(why)}): its boxes get no position and "
                "are not merged with those of other cameras"
                for name, why in sorted(rig.uncalibrated.items())
            ]
        self._notes = tuple(notes)
        for note in notes:
            logger.warning("%s", note)

    @property
    def ground(self) -> Ground:
        """Where the ground is in the base frame, as far as known now, and how that is known."""
        return self._looker.ground

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about the rig, one line each."""
        return self._notes

    def look(self, steps: Sequence[Seen]) -> list[Join]:
        """All that timesteps tell before their tracks are known; see `Fuser.look`."""
        looks = self._looker.look(steps)
        return [partial(self._join, look, seen.lidar) for look, seen in zip(looks, steps, strict=True)]

    def fuse(
        self,
        detections: Mapping[str, Detections],
        image_hw: Mapping[str, tuple[int, int]],
        base_now_SE3_camera: Mapping[str, SE3],
        predictions: Sequence[Prediction] = (),
        *,
        stamp_ns: int | None = None,
        frame_stamps_ns: Mapping[str, int] | None = None,
        lidar: Mapping[str, LidarRanges] | None = None,
        lenses: Mapping[str, Intrinsics] | None = None,
    ) -> Fusion:
        """Objects of one timestep; see `Fuser.fuse`."""
        seen = Seen(
            detections,
            image_hw,
            base_now_SE3_camera,
            stamp_ns,
            frame_stamps_ns,
            lidar or {},
            lenses or {},
        )
        (join,) = self.look([seen])
        return join(predictions)

    def _join(
        self, look: Look, lidar: Mapping[str, LidarRanges], predictions: Sequence[Prediction]
    ) -> Fusion:
        """Objects of one timestep in the light of its tracks."""
        boxes, reasons, located = look.boxes, look.reasons, look.located
        groups, places = Groups.none(), Places.nowhere(0)
        if look.placeable is not None:
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                groups, places, inside = self._located(look.placeable, Predictions.of(predictions), lidar)
            for row in look.placeable.boxes.rows[inside].tolist():
                reasons[row] = "ego_mask"
        if len(located) < len(boxes.rows):
            rest = np.delete(np.arange(len(boxes.rows)), located)
            groups = groups.among(located, rest, self._called(boxes.take(rest)))
            places = places.followed_by(Places.nowhere(len(rest)))
        objects, order = self._maker.make(boxes, groups, places, self._selector.names)
        number = np.empty(len(order), np.int64)
        number[order] = np.arange(len(order))
        object_of = np.full(len(reasons), -1, np.int32)
        object_of[boxes.rows[groups.box]] = number[groups.of]
        of_camera, suppressed = {}, {}
        for name, start, stop in zip(look.cameras, look.detections, look.detections[1:], strict=False):
            of_camera[name], suppressed[name] = object_of[start:stop], tuple(reasons[start:stop])
        return Fusion(objects, of_camera, suppressed)

    def _called(self, boxes: Boxes) -> IntArray:
        """What each of some boxes and its duplicates are called, where each is a thing of its own."""
        kind, every = boxes.kind.copy(), np.arange(len(boxes.kind))
        known = (boxes.words.kind < len(self._classes)).nonzero()[0]
        words = Words(boxes.words.box[known], boxes.words.kind[known], boxes.words.score[known])
        mine = words.box[np.r_[True, words.box[1:] != words.box[:-1]]] if len(known) else words.box
        kind[mine] = decided(words, every, len(every), self._classes.by_name)[mine]
        return kind

    def _located(
        self, at: Placeable, predictions: Predictions, lidar: Mapping[str, LidarRanges]
    ) -> tuple[Groups, Places, IntArray]:
        """Groups of N boxes whose rays are known; where they are; and which boxes lie inside the own vehicle."""
        label, gate_sigma = at.boxes.kind, self._settings.gate_sigma
        group = self._classes.group.take(label)
        stance, about = at.stance, at.about
        facts = at.made_of() if lidar else None
        if facts is not None:
            told = Told.of(lidar, at.boxes.observations)
            about = sketch(facts.rays, facts.sizes, _with_lidar(facts, told.take(at.source)), at.own)
        ahead_s = np.where(np.isfinite(at.late_s), at.late_s, 0.0)
        of_track = self._classes.groups_of(predictions.label)
        followed = follow(predictions, of_track, group, at.camera, ahead_s, about, gate_sigma)
        heading = followed.yaw_rad.take(at.source)
        if facts is not None:
            told = told.moved(followed.velocity_mps, facts.rays.toward)
            ranges = _with_lidar(facts, told.take(at.source), heading)
            stance = stand(facts.of_row, facts.sizes, facts.cues, ranges)
        views = locate(stance, self._limits_m.take(at.camera.take(at.source)), heading)
        if len(predictions):
            moved_m = followed.velocity_mps * ahead_s
            views.position_m[...] -= moved_m.take(at.source, 1)
        candidates = Candidates(at.camera, group, label, at.row_as, followed.track, at.late_s)
        length_m = self._classes.length_m.take(label)
        leader = associate(candidates, views, at.spans, length_m, self._overlaps, gate_sigma)
        return self._decided(at.boxes, leader, at.row_as, at.own, followed.yaw_rad, views)

    def _decided(
        self,
        boxes: Boxes,
        leader: IntArray,
        row_as: IntArray,
        own: IntArray,
        yaw_rad: FloatArray,
        views: Views,
    ) -> tuple[Groups, Places, IntArray]:
        """Class, heading and place of what is one thing; and which boxes lie inside the own vehicle.

        Args:
            boxes: N.
            leader: see `associate`.
            row_as: see `Candidates`.
            own: (N,) row of `views` of each, taken for its own class.
            yaw_rad: (N,) heading; NaN where unknown.
            views: where they are.
        """
        groups = Groups.led(leader, boxes.kind, yaw_rad)
        headed = np.isfinite(yaw_rad.take(groups.box)).nonzero()[0]
        headed = headed[::-1]  # the first one's heading is set last
        groups.yaw_rad[groups.of[headed]] = yaw_rad[groups.box[headed]]
        of_box = np.empty(len(leader), np.int64)
        of_box[groups.box] = groups.of
        groups.kind[:] = decided(boxes.words, of_box, len(groups.first), self._classes.by_name)
        rows = row_as[groups.box, groups.kind[groups.of]]
        # Two cameras that share nothing may be joined by a third whose word for it one of them never heard.
        rows = np.where(rows >= 0, rows, own[groups.box])
        of_row = views.take(rows)
        places = Places.of_views(of_row)
        if len(boxes.words.box) > len(leader):
            at, mixtures = in_doubt(groups, boxes.words, of_box, row_as, rows, views.known)
            if mixtures:
                places.put(np.array(at), mixed(views, mixtures))
        lost = self._in_own_vehicle(groups, of_row, places)
        together = placed_groups(groups, of_row, places)
        if not lost.any():
            return groups, together, groups.box[:0]
        return groups.without(lost), together.take((~lost).nonzero()[0]), groups.box[lost[groups.of]]

    def _in_own_vehicle(self, groups: Groups, views: Views, places: Places) -> FlagArray:
        """(G,) whether groups of B boxes lie inside `ego_footprint_m`, as far as any of their boxes can tell."""
        lost = np.zeros(len(groups.first), bool)
        if self._settings.ego_footprint_m is not None:
            x_min, y_min, x_max, y_max = self._settings.ego_footprint_m
            x, y = np.where(views.known, places.position_m[:, :2].T, views.reach_m)
            outside = ~((x_min <= x) & (x <= x_max) & (y_min <= y) & (y <= y_max))
            placed = np.bincount(groups.of, weights=views.known) > 0
            telling = views.known | ~placed[groups.of]
            lost |= np.bincount(groups.of, weights=outside & telling) == 0
        return lost

    def _max_range(self, camera: str) -> float:
        own = self._cameras[camera].max_range_m if camera in self._cameras else None
        return min(self._settings.max_range_m, own if own is not None else math.inf)


def _with_lidar(facts: Facts, told: Told, yaw_rad: FloatArray | None = None) -> Ranges:
    """Ranges of R rows with what a lidar says, where their headings are these."""
    headed = np.full(len(told.range_m), np.nan) if yaw_rad is None else yaw_rad
    stands = told.to_contact(facts.sizes, facts.of_row.azimuth_rad, headed)
    return with_lidar(facts.ranges, facts.cues, stands)
