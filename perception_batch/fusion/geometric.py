"""The fuser: geometry, one timestep at a time, with the ground learnt from the drive and help from the tracks."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray, Intrinsics, Rig
from perception_batch.config import CameraConfig, FuseConfig
from perception_batch.errors import printable
from perception_batch.fusion.associate import Candidates, associate
from perception_batch.fusion.class_doubt import Mixture, mixed
from perception_batch.fusion.cues import Cues, Sizes, read_cues
from perception_batch.fusion.ground import Ground, GroundEstimator, cameras_under, find_ground
from perception_batch.fusion.lens import BoxImage, BoxRays, RayTables, box_rays, low_edge
from perception_batch.fusion.lidar_cue import Told, with_lidar
from perception_batch.fusion.objects import Box, Group, ObjectMaker, verdicts
from perception_batch.fusion.overlap import overlapping
from perception_batch.fusion.position import Views, locate, sketch
from perception_batch.fusion.predicted import follow
from perception_batch.fusion.ranges import find_ranges
from perception_batch.fusion.suppress import LabelRule, duplicates, low_edge_hidden, reasons_against, rule_for
from perception_batch.fusion.surface import GroundUnder, SurfaceEstimator, flat_under
from perception_batch.geometry import SE3
from perception_batch.ontology import ObjectClass, Ontology
from perception_batch.types import (
    Detections,
    FusedObject,
    Fusion,
    LidarRanges,
    Observation,
    Prediction,
    SuppressedReason,
)

logger = logging.getLogger(__name__)

_LENSES_KEPT = 64  # tables of rays, 0.2 MB each: a log may change lenses and image sizes with every frame
_GROUND_SCORE = 0.5  # boxes that teach the ground's height are this sure ...
_GROUND_HEIGHT_PX = 20.0  # ... and this high


class GeometricFuser:
    """Objects from bearings, ground contact, box heights and class sizes; see `open_fuser`.

    Its memory is what the drive told of the ground: two small regressions and, where neither the config, the log
    nor the mount tells the ground's height, a histogram.
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
        self._rig = rig
        self._ontology = ontology
        self._labels = dict(labels)
        self._settings = settings
        self._score = detect_score
        self._classes = detect_classes
        self._cameras = dict(cameras)
        self._plain = CameraConfig()  # for cameras that the config does not name
        self._mount = self._ground = find_ground(rig, settings)
        self._histogram = (
            GroundEstimator(settings.ground_sigma_m) if self._ground.source == "unknown" else None
        )
        self._surface = SurfaceEstimator(len(rig.cameras), settings) if settings.ground_memory_s > 0 else None
        self._rules: dict[tuple[str, int], LabelRule] = {}
        self._tables = RayTables()
        self._lenses: dict[tuple[str, tuple[int, int], Intrinsics], int | None] = {}
        self._unfit: set[str] = set()
        self._named: set[str] = set()
        self._maker = ObjectMaker(ontology, self._labels)
        self._camera_number = {name: i for i, name in enumerate(sorted(rig.cameras))}
        self._limits_m = np.array([self._max_range(name) for name in sorted(rig.cameras)])
        self._group_number: dict[str, int] = {}
        self._overlaps = np.zeros((len(rig.cameras),) * 2, bool)
        for a, b in overlapping(rig):
            i, j = self._camera_number[a], self._camera_number[b]
            self._overlaps[i, j] = self._overlaps[j, i] = True
        notes = cameras_under(rig, self._ground)
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
        return self._ground

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about the rig, one line each."""
        return self._notes

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
        if len(self._lenses) > max(_LENSES_KEPT, 4 * len(detections)):
            self._tables, self._lenses = RayTables(), {}
        every, suppressed = self._kept(detections)
        boxes: list[Box] = []
        images: list[BoxImage] = []
        offsets: list[float] = []
        seeing: list[int] = []  # positions in `boxes` of those with rays, in the order of `rays`
        for camera, kept in every.items():
            own = (lenses or {}).get(camera)
            lens = self._lens(camera, image_hw[camera], own)
            if lens is not None and camera in base_now_SE3_camera:
                rows = [b.observation.detection for b in kept]
                xyxy = detections[camera].xyxy[rows].astype(np.float64)
                model = (own or self._rig.cameras[camera].intrinsics).model
                pose = base_now_SE3_camera[camera]
                images.append(self._image(camera, xyxy, lens, image_hw[camera], pose, model == "equidistant"))
                seeing.extend(range(len(boxes), len(boxes) + len(kept)))
                late = math.nan
                if stamp_ns is not None and frame_stamps_ns is not None:
                    late = (frame_stamps_ns.get(camera, stamp_ns) - stamp_ns) * 1e-9
                offsets += [late] * len(kept)
            boxes.extend(kept)
        # An unknown label has no size and no group, so no position and no partners.
        known = [k for k, i in enumerate(seeing) if boxes[i].rule.entry is not None]
        located = [seeing[k] for k in known]
        objects: list[FusedObject] = []
        if located:
            joined = box_rays(images, self._tables)
            if len(known) < len(seeing):
                joined = joined.take(np.array(known, np.int64))
            late_s = np.array([offsets[k] for k in known])
            chosen = [boxes[i] for i in located]
            objects, inside = self._located(chosen, joined, late_s, predictions, stamp_ns, lidar or {})
            for observation in inside:
                suppressed[observation.camera][observation.detection] = "ego_mask"
        placed = set(located)
        for i, box in enumerate(boxes):
            if i not in placed:
                objects.append(self._maker.alone(box))
        objects.sort(key=_rank)
        numbers = {camera: [-1] * len(found) for camera, found in detections.items()}
        for number, item in enumerate(objects):
            for seen in item.observations:
                numbers[seen.camera][seen.detection] = number
        object_of = {camera: np.array(of, np.int32) for camera, of in numbers.items()}
        return Fusion(tuple(objects), object_of, {camera: tuple(suppressed[camera]) for camera in detections})

    def _kept(
        self, detections: Mapping[str, Detections]
    ) -> tuple[dict[str, list[Box]], dict[str, list[SuppressedReason]]]:
        """By camera: the boxes that count, if any, by number; and the reasons against those that do not."""
        suppressed: dict[str, list[SuppressedReason]] = {}
        alive: list[tuple[str, int, float, LabelRule]] = []  # camera by camera, by falling score
        parts, counts = [], []
        for camera in sorted(detections):
            found, config = detections[camera], self._cameras.get(camera, self._plain)
            rules = [self._rule(camera, number) for number in found.class_id.tolist()]
            reasons = suppressed[camera] = reasons_against(found, rules, config.mask)
            scores = found.score.tolist()
            order = [i for i, reason in enumerate(reasons) if not reason]
            order.sort(key=scores.__getitem__, reverse=True)  # equal ones stay in order
            alive += [(camera, i, scores[i], rules[i]) for i in order]
            parts.append(found.xyxy[order])
            counts.append(len(order))
        kept: dict[str, list[Box]] = {}
        if not alive:
            return kept, suppressed
        same = duplicates(
            np.concatenate(parts).astype(np.float64),
            np.repeat(np.arange(len(counts)), counts),
            [rule.group for _, _, _, rule in alive],
            self._settings.duplicate_iou,
        )
        for camera, i in (alive[row][:2] for rows in same.values() for row in rows):
            suppressed[camera][i] = "duplicate"
        for row, (camera, i, score, rule) in enumerate(alive):
            if suppressed[camera][i]:
                continue
            evidence: tuple[tuple[str, float], ...] = ((rule.name, score),)
            if row in same:
                evidence += tuple((alive[k][3].name, alive[k][2]) for k in same[row])
            kept.setdefault(camera, []).append(Box(Observation(camera, i), score, rule, evidence))
            if rule.entry is None and rule.name not in self._named:
                self._named.add(rule.name)
                logger.warning(
                    "label %s is not in the ontology: its boxes get no position and are not merged",
                    printable(rule.name),
                )
        for boxes in kept.values():
            boxes.sort(key=lambda box: box.observation.detection)
        return kept, suppressed

    def _rule(self, camera: str, number: int) -> LabelRule:
        rule = self._rules.get((camera, number))
        if rule is None:
            config = self._cameras.get(camera, self._plain)
            scores: list[float | Mapping[str, float]] = [self._score]
            if config.score is not None:
                scores.insert(0, config.score)
            rule = self._rules[camera, number] = rule_for(
                self._labels.get(number, f"class {number}"),
                self._ontology,
                frozenset(self._labels.values()),
                self._classes if config.classes is None else config.classes,
                scores,
            )
        return rule

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

    def _image(
        self,
        camera: str,
        xyxy: FloatArray,
        lens: int,
        hw: tuple[int, int],
        base_SE3_camera: SE3,
        fisheye: bool,
    ) -> BoxImage:
        config = self._cameras.get(camera, self._plain)
        hidden = low_edge_hidden(xyxy, low_edge(base_SE3_camera), config.mask) if config.mask else None
        return BoxImage(
            xyxy,
            lens,
            base_SE3_camera,
            config.roi_px or (0, 0, hw[1], hw[0]),
            hidden,
            fisheye,
        )

    def _located(
        self,
        boxes: Sequence[Box],
        rays: BoxRays,
        late_s: FloatArray,
        predictions: Sequence[Prediction],
        stamp_ns: int | None,
        lidar: Mapping[str, LidarRanges],
    ) -> tuple[list[FusedObject], list[Observation]]:
        """Objects of boxes whose rays are known, and the observations of what lies inside the own vehicle."""
        camera = np.array([self._camera_number[box.observation.camera] for box in boxes], np.int64)
        group = np.array([self._number_of(box.rule.group) for box in boxes], np.int64)
        entries, row_as, source = self._taken_for(boxes, camera, group)
        names = {entry.name: k for k, entry in enumerate(entries)}
        label = np.array([names[box.rule.name] for box in boxes], np.int64)
        own = row_as[np.arange(len(boxes)), label]
        limits = self._limits_m[camera]

        of_row = rays.take(source)
        sizes = self._sizes(entries, row_as)
        cues = read_cues(of_row, sizes, self._settings)
        under = self._under(rays, camera, cues.take(own), self._sure(boxes, rays), stamp_ns)

        ranges = by_box = find_ranges(of_row, sizes, cues, under.take(source), self._settings)
        told = Told.of(lidar, [box.observation for box in boxes]) if lidar else None
        if told is not None:
            unheaded = np.full(len(source), np.nan)
            stands = told.take(source).to_contact(sizes, of_row.azimuth_rad, unheaded)
            ranges = with_lidar(by_box, cues, stands)
        yaw_rad, track = np.full(len(boxes), np.nan), np.full(len(boxes), -1, np.int64)
        moved_m = None
        if predictions:
            ahead_s = np.where(np.isfinite(late_s), late_s, 0.0)
            about = sketch(rays, sizes.take(own), ranges.take(own))
            words = [box.rule.group for box in boxes]
            followed = follow(
                predictions, self._ontology, words, camera, ahead_s, about, self._settings.gate_sigma
            )
            yaw_rad, track = followed.yaw_rad, followed.track
            moved_m = followed.velocity_mps * ahead_s[:, None]
            if told is not None:
                told = told.moved(followed.velocity_mps, rays.azimuth_rad)
                stands = told.take(source).to_contact(sizes, of_row.azimuth_rad, yaw_rad[source])
                ranges = with_lidar(by_box, cues, stands)
        views = locate(of_row, sizes, cues, ranges, limits[source], yaw_rad[source])
        if moved_m is not None:
            views.position_m[...] -= moved_m[source]
        candidates = Candidates(camera, group, label, row_as, track, late_s)
        lengths = sizes.mean[own, 0] + 2 * sizes.sd[own, 0]
        together = associate(candidates, views, rays, lengths, self._overlaps, self._settings.gate_sigma)
        groups: list[Group] = []
        inside: list[Observation] = []
        mixtures: list[Mixture] = []
        rows_of, own_rows, yaws = row_as.tolist(), own.tolist(), yaw_rad.tolist()
        for members in together:
            seen = [boxes[i] for i in members]
            if len(seen) == 1 and len(seen[0].evidence) == 1:  # most are
                name, rows, yaw = seen[0].rule.name, [own_rows[members[0]]], yaws[members[0]]
            else:
                says = verdicts(seen)
                name = next(iter(says))
                k = names[name]
                # Two cameras that share nothing may be joined by a third whose word for it one of them never heard.
                rows = [rows_of[i][k] if rows_of[i][k] >= 0 else own_rows[i] for i in members]
                yaw = next(
                    (yaws[i] for i in members if yaws[i] == yaws[i]), math.nan
                )  # the first that is no NaN
                if len(says) > 1 and any(len(box.evidence) > 1 for box in seen):
                    in_doubt = [(names[word], score) for word, score in says.items()]
                    for n, i in enumerate(members):
                        may = [(rows_of[i][k], score) for k, score in in_doubt if rows_of[i][k] >= 0]
                        if len(may) > 1 and may[0][0] == rows[n]:
                            rows[n] = len(source) + len(mixtures)
                            mixtures.append(([row for row, _ in may], [score for _, score in may]))
            groups.append(Group(seen, name, rows, yaw))
        views = mixed(views, mixtures)
        if self._settings.ego_footprint_m is not None:
            own_vehicle = [self._in_own_vehicle(views, group.rows) for group in groups]
            inside = [
                o.observation for g, is_own in zip(groups, own_vehicle, strict=True) if is_own for o in g.seen
            ]
            groups = [g for g, is_own in zip(groups, own_vehicle, strict=True) if not is_own]
        return self._maker.make(groups, views), inside

    def _taken_for(
        self, boxes: Sequence[Box], camera: npt.NDArray[np.int64], group: npt.NDArray[np.int64]
    ) -> tuple[list[ObjectClass], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Every box is placed once for each class that it may turn out to be.

        Returns:
            the K classes at stake, in the ontology's order; (N, K) row of box n taken for class k, -1 where it
            cannot be; the box of each row.
        """
        present = {name for box in boxes for name, _ in box.evidence}
        entries = [entry for name, entry in self._ontology.classes.items() if name in present]
        number = {entry.name: k for k, entry in enumerate(entries)}
        called = np.zeros((len(self._camera_number), len(entries)), bool)  # what each camera calls anything
        mine = np.zeros((len(boxes), len(entries)), bool)
        words = [(i, number[name]) for i, box in enumerate(boxes) for name, _ in box.evidence]
        at = np.array(words, np.int64).T
        mine[at[0], at[1]] = True
        called[camera[at[0]], at[1]] = True
        beside = (self._overlaps.astype(np.int64) @ called.astype(np.int64)) > 0  # what its neighbours do
        of_class = np.array([self._number_of(entry.group) for entry in entries])
        may = (mine | beside[camera]) & (group[:, None] == of_class)
        row_as = np.where(may, np.cumsum(may).reshape(may.shape) - 1, -1)
        return entries, row_as, np.nonzero(may)[0]

    @staticmethod
    def _sizes(entries: list[ObjectClass], row_as: npt.NDArray[np.int64]) -> Sizes:
        of_class = Sizes.of(entries)
        kind = np.nonzero(row_as >= 0)[1]
        return Sizes(of_class.mean[kind], of_class.sd[kind], of_class.on_ground[kind])

    def _number_of(self, group: str) -> int:
        return self._group_number.setdefault(group, len(self._group_number))

    def _sure(self, boxes: Sequence[Box], rays: BoxRays) -> npt.NDArray[np.bool_]:
        """(N,) which boxes are good enough to teach where the ground is."""
        score = np.array([box.score for box in boxes])
        return (score >= _GROUND_SCORE) & (rays.height_px >= _GROUND_HEIGHT_PX)

    def _under(
        self,
        rays: BoxRays,
        camera: npt.NDArray[np.int64],
        cues: Cues,
        sure: npt.NDArray[np.bool_],
        stamp_ns: int | None,
    ) -> GroundUnder:
        """The ground under each box, after the boxes of this timestep had their say."""
        if self._histogram is not None:
            run = 1 / cues.u_height[sure]
            pitch = math.radians(self._settings.pitch_sigma_deg)
            sigma = np.sqrt(cues.contact_var_m2[sure]) + pitch * run
            self._histogram.add(cues.contact_z_m[sure], sigma**-2.0)
            self._mount = self._ground = self._histogram.ground()
        if self._surface is None or not math.isfinite(self._mount.z_m):
            return flat_under(self._ground, len(sure), self._settings)
        # Without a height of its own a box is asked about where the flat ground would have it.
        drop = np.maximum(-rays.tan_low, 0.01)
        run = np.clip((rays.origin_m[:, 2] - self._mount.z_m) / drop, 1.0, self._settings.max_range_m)
        run = np.where(cues.has_height, 1 / np.where(cues.has_height, cues.u_height, 1.0), run)
        toward = np.stack([np.cos(rays.azimuth_rad), np.sin(rays.azimuth_rad)], axis=1)
        contact = rays.origin_m[:, :2] + run[:, None] * toward
        told = np.where(sure, cues.contact_z_m, np.nan)
        under = self._surface.look(self._mount, contact, run, camera, told, cues.contact_var_m2, stamp_ns)
        self._ground = self._surface.ground(self._mount)
        return under

    def _in_own_vehicle(self, views: Views, rows: Sequence[int]) -> bool:
        """Whether an object of these rows lies inside `ego_footprint_m`, as far as any of them can tell."""
        box = self._settings.ego_footprint_m
        if box is None:
            return False
        x_min, y_min, x_max, y_max = box
        known = [row for row in rows if views.known[row]]
        places = [views.position_m[row] for row in known] or [views.reach_m[row] for row in rows]
        return all(x_min <= float(p[0]) <= x_max and y_min <= float(p[1]) <= y_max for p in places)

    def _max_range(self, camera: str) -> float:
        own = self._cameras.get(camera, self._plain).max_range_m
        return min(self._settings.max_range_m, own if own is not None else math.inf)


def _rank(item: FusedObject) -> tuple[float, str, int]:
    """By falling score, then by observation: a detection is part of one object only."""
    first = item.observations[0]
    return -item.score, first.camera, first.detection
