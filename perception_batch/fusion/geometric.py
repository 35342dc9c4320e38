"""The fuser: geometry, one timestep at a time, with the ground learnt from the drive and help from the tracks."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np

from perception_batch.assignment import IntArray
from perception_batch.calibration import FloatArray, Intrinsics, Rig
from perception_batch.config import CameraConfig, FuseConfig
from perception_batch.errors import printable
from perception_batch.fusion.associate import Candidates, associate
from perception_batch.fusion.boxes import Boxes, BoxSelector, Words
from perception_batch.fusion.class_doubt import mixed
from perception_batch.fusion.cues import Cues, read_cues
from perception_batch.fusion.ground import Ground, GroundEstimator, cameras_under, find_ground
from perception_batch.fusion.groups import FlagArray, Groups, decided, in_doubt
from perception_batch.fusion.lens import BoxRays, ImageFrame, RayTables, box_rays
from perception_batch.fusion.lidar_cue import Told, with_lidar
from perception_batch.fusion.objects import ObjectMaker, placed_groups
from perception_batch.fusion.overlap import overlapping
from perception_batch.fusion.placed import Places
from perception_batch.fusion.position import Views, locate, sketch
from perception_batch.fusion.predicted import Followed, follow
from perception_batch.fusion.ranges import find_ranges
from perception_batch.fusion.sizes import Sizes
from perception_batch.fusion.suppress import low_edge_hidden
from perception_batch.fusion.surface import GroundUnder, SurfaceEstimator, flat_under
from perception_batch.geometry import SE3
from perception_batch.ontology import Ontology
from perception_batch.types import (
    Detections,
    Fusion,
    LidarRanges,
    Prediction,
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
        self._mount = self._ground = find_ground(rig, settings)
        self._histogram = (
            GroundEstimator(settings.ground_sigma_m) if self._ground.source == "unknown" else None
        )
        self._surface = SurfaceEstimator(len(rig.cameras), settings) if settings.ground_memory_s > 0 else None
        self._tables = RayTables()
        self._lenses: dict[tuple[str, tuple[int, int], Intrinsics], int | None] = {}
        self._frames: dict[
            str, tuple[SE3, Intrinsics | None, tuple[int, int], ImageFrame]
        ] = {}  # the last ones
        self._unfit: set[str] = set()
        # Classes, groups and cameras by number from here on: rows of these tables.
        self._class_names = list(ontology.classes)
        self._class_sizes = Sizes.of(list(ontology.classes.values()))
        self._lengths_m = self._class_sizes.length_m + 2 * np.sqrt(
            self._class_sizes.length_var
        )  # hardly any is longer
        self._by_name = np.array(
            [sorted(self._class_names).index(name) for name in self._class_names], np.int64
        )
        groups = {entry.group: None for entry in ontology.classes.values()}
        self._group_number = {group: g for g, group in enumerate(groups)}
        self._group_of: dict[str, int] = {}  # of a label that a prediction has; -1: none
        self._class_group = np.array(
            [self._group_number[entry.group] for entry in ontology.classes.values()], np.int64
        )
        self._same_group = self._class_group[:, None] == self._class_group
        self._camera_number = {name: i for i, name in enumerate(sorted(rig.cameras))}
        self._limits_m = np.array([self._max_range(name) for name in sorted(rig.cameras)])
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
            self._tables, self._lenses, self._frames = RayTables(), {}, {}
        boxes, reasons = self._selector.select(detections)
        camera = np.full(len(boxes.rows), -1)  # number, where its lens and pose are known
        late_s = np.full(len(boxes.rows), np.nan)
        frames: list[ImageFrame] = []
        counts: list[int] = []
        hidden = np.zeros(len(boxes.rows), bool)
        for name, part in boxes.parts.items():
            own = lenses.get(name) if lenses else None
            if part.start == part.stop or name not in base_now_SE3_camera:
                continue
            frame = self._frame(name, image_hw[name], base_now_SE3_camera[name], own)
            if frame is None:
                continue
            frames.append(frame)
            counts.append(part.stop - part.start)
            camera[part] = self._camera_number[name]
            if stamp_ns is not None and frame_stamps_ns is not None:
                late_s[part] = (frame_stamps_ns.get(name, stamp_ns) - stamp_ns) * 1e-9
            mask = self._cameras[name].mask if name in self._cameras else ()
            if mask:
                hidden[part] = low_edge_hidden(boxes.xyxy[part], frame.low, mask)
        # An unknown label has no size and no group, so no position and no partners.
        placeable = (camera >= 0) & (boxes.kind < len(self._class_names))
        located, rest = placeable.nonzero()[0], (~placeable).nonzero()[0]
        groups, places, told = Groups.none(), Places.nowhere(0), lidar or {}
        if len(located):
            seen = (camera >= 0).nonzero()[0]
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                rays = box_rays(boxes.xyxy.take(seen, 0), frames, counts, self._tables, hidden.take(seen))
                if len(rest):
                    rays = rays.take(placeable[seen].nonzero()[0])
                    mine = boxes.take(located)
                    camera, late_s = camera[located], late_s[located]
                else:
                    mine = boxes
                groups, places, inside = self._located(
                    mine, rays, camera, late_s, predictions, stamp_ns, told
                )
            for row in mine.rows[inside].tolist():
                reasons[row] = "ego_mask"
        if len(rest):
            groups = groups.among(located, rest, self._called(boxes.take(rest)))
            places = places.followed_by(Places.nowhere(len(rest)))
        objects, order = self._maker.make(boxes, groups, places, self._selector.names)
        number = np.empty(len(order), np.int64)
        number[order] = np.arange(len(order))
        object_of = np.full(len(reasons), -1, np.int32)
        object_of[boxes.rows[groups.box]] = number[groups.of]
        of_camera, suppressed, start = {}, {}, 0
        for name in boxes.parts:
            stop = start + len(detections[name])
            of_camera[name], suppressed[name], start = object_of[start:stop], tuple(reasons[start:stop]), stop
        return Fusion(tuple(objects), of_camera, suppressed)

    def _called(self, boxes: Boxes) -> IntArray:
        """What each of some boxes and its duplicates are called, where each is a thing of its own."""
        kind, every = boxes.kind.copy(), np.arange(len(boxes.kind))
        known = (boxes.words.kind < len(self._class_names)).nonzero()[0]
        words = Words(boxes.words.box[known], boxes.words.kind[known], boxes.words.score[known])
        mine = words.box[np.r_[True, words.box[1:] != words.box[:-1]]] if len(known) else words.box
        kind[mine] = decided(words, every, len(every), self._by_name)[mine]
        return kind

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

    def _located(
        self,
        boxes: Boxes,
        rays: BoxRays,
        camera: IntArray,
        late_s: FloatArray,
        predictions: Sequence[Prediction],
        stamp_ns: int | None,
        lidar: Mapping[str, LidarRanges],
    ) -> tuple[Groups, Places, IntArray]:
        """Groups of N boxes whose rays are known; where they are; and which boxes lie inside the own vehicle."""
        label, gate_sigma = boxes.kind, self._settings.gate_sigma
        group = self._class_group.take(label)
        # From here on "rows": every box once for each class that it may turn out to be.
        row_as, source, kind = self._taken_for(boxes, camera)
        own = row_as.ravel().take(np.arange(len(label)) * row_as.shape[1] + label)

        of_row = rays.take(source)
        sizes = self._class_sizes.take(kind)
        cues = read_cues(of_row, sizes, self._settings)
        sure = (boxes.score >= _GROUND_SCORE) & (rays.height_px >= _GROUND_HEIGHT_PX)
        under = self._under(rays, camera, cues, own, sure, stamp_ns)

        ranges = by_box = find_ranges(of_row, sizes, cues, under.take(source), self._settings)
        told = Told.of(lidar, boxes.observations) if lidar else None
        if told is not None:
            unheaded = np.full(len(source), np.nan)
            stands = told.take(source).to_contact(sizes, of_row.azimuth_rad, unheaded)
            ranges = with_lidar(by_box, cues, stands)
        ahead_s = np.where(np.isfinite(late_s), late_s, 0.0)
        if predictions:
            of_track = self._groups_of(predictions)
            about = sketch(rays, sizes, ranges, own)
            followed = follow(predictions, of_track, group, camera, ahead_s, about, gate_sigma)
        else:
            followed = Followed.nothing(len(label))
        heading = followed.yaw_rad.take(source)
        if told is not None and predictions:
            told = told.moved(followed.velocity_mps, rays.toward)
            stands = told.take(source).to_contact(sizes, of_row.azimuth_rad, heading)
            ranges = with_lidar(by_box, cues, stands)
        views = locate(of_row, sizes, cues, ranges, self._limits_m.take(camera.take(source)), heading)
        if predictions:
            moved_m = followed.velocity_mps * ahead_s
            views.position_m[...] -= moved_m.take(source, 1)
        candidates = Candidates(camera, group, label, row_as, followed.track, late_s)
        leader = associate(candidates, views, rays, self._lengths_m.take(label), self._overlaps, gate_sigma)
        return self._decided(boxes, leader, row_as, own, followed.yaw_rad, views)

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
        headed = np.isfinite(yaw_rad.take(groups.box)).nonzero()[0][
            ::-1
        ]  # the first one's heading is set last
        groups.yaw_rad[groups.of[headed]] = yaw_rad[groups.box[headed]]
        of_box = np.empty(len(leader), np.int64)
        of_box[groups.box] = groups.of
        groups.kind[:] = decided(boxes.words, of_box, len(groups.first), self._by_name)
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

    def _taken_for(self, boxes: Boxes, camera: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """Every box is placed once for each class that it may turn out to be.

        Returns:
            (N, K) row of box n taken for class k, -1 where it cannot be; the box of each row; the class of each row.
        """
        words, classes = boxes.words, len(self._class_group)
        called = np.zeros((len(self._limits_m), classes), bool)  # by each camera, anything
        called[camera[words.box], words.kind] = True
        beside = self._overlaps @ called  # what its neighbours do
        may = beside.take(camera, 0)
        may &= self._same_group.take(boxes.kind, 0)
        flat = may.ravel()
        flat[words.box * classes + words.kind] = True
        taken = flat.nonzero()[0]
        row_as = np.full(may.shape, -1)
        row_as.ravel()[taken] = np.arange(len(taken))
        source = taken // classes
        return row_as, source, taken - source * classes

    def _groups_of(self, predictions: Sequence[Prediction]) -> IntArray:
        """(T,) number of the class group of each; -1 where the ontology has none."""
        labels = [prediction.label for prediction in predictions]
        for label in set(labels).difference(self._group_of):
            entry = self._ontology.find(label)
            self._group_of[label] = -1 if entry is None else self._group_number[entry.group]
        return np.array(list(map(self._group_of.__getitem__, labels)), np.int64)

    def _under(
        self,
        rays: BoxRays,
        camera: IntArray,
        cues: Cues,
        own: IntArray,
        sure: FlagArray,
        stamp_ns: int | None,
    ) -> GroundUnder:
        """The ground under each box, after the boxes of this timestep had their say; `own`: their rows of `cues`."""
        has_height, u_height = cues.has_height.take(own), cues.u_height.take(own)
        contact_z, contact_var = cues.contact_z_m.take(own), cues.contact_var_m2.take(own)
        if self._histogram is not None:
            run = 1 / u_height[sure]
            pitch = math.radians(self._settings.pitch_sigma_deg)
            sigma = np.sqrt(contact_var[sure]) + pitch * run
            self._histogram.add(contact_z[sure], sigma**-2.0)
            self._mount = self._ground = self._histogram.ground()
        if self._surface is None or not math.isfinite(self._mount.z_m):
            return flat_under(self._ground, len(sure), self._settings)
        # Without a height of its own a box is asked about where the flat ground would have it.
        run = (rays.origin_m[2] - self._mount.z_m) / np.maximum(-rays.tan_low, 0.01)
        run = np.minimum(np.maximum(run, 1.0), self._settings.max_range_m)
        run = np.where(has_height, 1 / u_height, run)
        told = np.where(sure, contact_z, np.nan)
        under = self._surface.look(
            self._mount, rays.toward, rays.origin_m, run, camera, told, contact_var, stamp_ns
        )
        self._ground = self._surface.ground(self._mount)
        return under

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
