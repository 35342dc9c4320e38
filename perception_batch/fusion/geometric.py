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
from perception_batch.fusion.boxes import Boxes, BoxSelector
from perception_batch.fusion.class_doubt import Mixture, mixed
from perception_batch.fusion.cues import Cues, Sizes, read_cues
from perception_batch.fusion.ground import Ground, GroundEstimator, cameras_under, find_ground
from perception_batch.fusion.lens import BoxImage, BoxRays, RayTables, box_rays, low_edge
from perception_batch.fusion.lidar_cue import Told, with_lidar
from perception_batch.fusion.objects import Groups, ObjectMaker
from perception_batch.fusion.overlap import overlapping
from perception_batch.fusion.position import Views, locate, sketch
from perception_batch.fusion.predicted import follow
from perception_batch.fusion.ranges import find_ranges
from perception_batch.fusion.suppress import low_edge_hidden
from perception_batch.fusion.surface import GroundUnder, SurfaceEstimator, flat_under
from perception_batch.geometry import SE3
from perception_batch.ontology import Ontology
from perception_batch.types import (
    Detections,
    Fusion,
    LidarRanges,
    Observation,
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
        self._plain = CameraConfig()  # for cameras that the config does not name
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
        self._unfit: set[str] = set()
        # Classes, groups and cameras by number from here on: rows of these tables.
        self._class_names = list(ontology.classes)
        self._class_number = {name: k for k, name in enumerate(ontology.classes)}
        self._class_sizes = Sizes.of(list(ontology.classes.values()))
        groups = {entry.group: None for entry in ontology.classes.values()}
        self._group_number = {group: g for g, group in enumerate(groups)}
        self._group_of: dict[str, int] = {}  # of a label that a prediction has; -1: none
        self._class_group = np.array(
            [self._group_number[entry.group] for entry in ontology.classes.values()], np.int64
        )
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
            self._tables, self._lenses = RayTables(), {}
        boxes, reasons = self._selector.select(detections)
        camera = np.full(len(boxes.rules), -1, np.int64)  # number, where its lens and pose are known
        late_s = np.full(len(boxes.rules), np.nan)
        images: list[BoxImage] = []
        for name, part in boxes.parts.items():
            own = (lenses or {}).get(name)
            if part.start == part.stop or name not in base_now_SE3_camera:
                continue
            lens = self._lens(name, image_hw[name], own)
            if lens is not None:
                model = (own or self._rig.cameras[name].intrinsics).model
                pose = base_now_SE3_camera[name]
                xyxy = boxes.xyxy[part]
                images.append(self._image(name, xyxy, lens, image_hw[name], pose, model == "equidistant"))
                camera[part] = self._camera_number[name]
                if stamp_ns is not None and frame_stamps_ns is not None:
                    late_s[part] = (frame_stamps_ns.get(name, stamp_ns) - stamp_ns) * 1e-9
        groups, views = Groups(), None
        inside: list[Observation] = []
        # An unknown label has no size and no group, so no position and no partners.
        label = np.array([self._class_number.get(rule.name, -1) for rule in boxes.rules], np.int64)
        placeable = (camera >= 0) & (label >= 0)
        rest: list[int] = (~placeable).nonzero()[0].tolist()
        if len(rest) == 0 < len(label):
            rays = box_rays(images, self._tables)
            groups, views, inside = self._located(
                boxes, label, rays, camera, late_s, predictions, stamp_ns, lidar or {}
            )
        elif len(rest) < len(label):
            rays = box_rays(images, self._tables).take(placeable[camera >= 0].nonzero()[0])
            located = placeable.nonzero()[0]
            numbers = located.tolist()
            groups, views, inside = self._located(
                boxes.take(numbers),
                label[located],
                rays,
                camera[located],
                late_s[located],
                predictions,
                stamp_ns,
                lidar or {},
            )
            groups = groups.of_all(numbers)
        for i in rest:
            groups.add([i], next(iter(boxes.verdicts([i]))), [], math.nan)
        for observation in inside:
            reasons[observation.camera][observation.detection] = "ego_mask"
        objects, order = self._maker.make(boxes, groups, views)
        object_of = [-1] * sum(map(len, detections.values()))
        for number, k in enumerate(order):
            for i in groups.members[k]:
                object_of[boxes.rows[i]] = number
        every, of_camera, start = np.array(object_of, np.int32), {}, 0
        for name in boxes.parts:
            stop = start + len(detections[name])
            of_camera[name], start = every[start:stop], stop
        return Fusion(tuple(objects), of_camera, {name: tuple(why) for name, why in reasons.items()})

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
        boxes: Boxes,
        label: npt.NDArray[np.int64],
        rays: BoxRays,
        camera: npt.NDArray[np.int64],
        late_s: FloatArray,
        predictions: Sequence[Prediction],
        stamp_ns: int | None,
        lidar: Mapping[str, LidarRanges],
    ) -> tuple[Groups, Views, list[Observation]]:
        """Groups of boxes whose rays are known; where they are; and what lies inside the own vehicle."""
        group = self._class_group[label]
        row_as, source, kind = self._taken_for(boxes, label, camera)
        own = row_as[np.arange(len(label)), label]
        limits = self._limits_m[camera]

        of_row = rays.take(source)
        sizes = self._class_sizes.take(kind)
        cues = read_cues(of_row, sizes, self._settings)
        sure = (np.array(boxes.scores) >= _GROUND_SCORE) & (rays.height_px >= _GROUND_HEIGHT_PX)
        under = self._under(rays, camera, cues, own, sure, stamp_ns)

        ranges = by_box = find_ranges(of_row, sizes, cues, under.take(source), self._settings)
        told = Told.of(lidar, boxes.observations) if lidar else None
        if told is not None:
            unheaded = np.full(len(source), np.nan)
            stands = told.take(source).to_contact(sizes, of_row.azimuth_rad, unheaded)
            ranges = with_lidar(by_box, cues, stands)
        yaw_rad, track = np.full(len(label), np.nan), np.full(len(label), -1, np.int64)
        moved_m = None
        if predictions:
            ahead_s = np.where(np.isfinite(late_s), late_s, 0.0)
            about = sketch(rays, sizes, ranges, own)
            of_track = self._groups_of(predictions)
            followed = follow(predictions, of_track, group, camera, ahead_s, about, self._settings.gate_sigma)
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
        groups, views = self._decided(boxes, together, label, own, row_as, yaw_rad, views)
        inside: list[Observation] = []
        if self._settings.ego_footprint_m is not None:
            own_vehicle = [self._in_own_vehicle(views, rows) for rows in groups.rows]
            lost = [members for members, is_own in zip(groups.members, own_vehicle, strict=True) if is_own]
            inside = [boxes.observations[i] for members in lost for i in members]
            groups = groups.take(k for k, is_own in enumerate(own_vehicle) if not is_own)
        return groups, views, inside

    def _decided(
        self,
        boxes: Boxes,
        together: list[list[int]],
        label: npt.NDArray[np.int64],
        own: npt.NDArray[np.int64],
        row_as: npt.NDArray[np.int64],
        yaw_rad: FloatArray,
        views: Views,
    ) -> tuple[Groups, Views]:
        """Class and heading of what is one thing, and `views` with rows for what is of a class in doubt.

        Args:
            boxes: N.
            together: which of them are one thing.
            label: (N,) number of the class.
            own: (N,) row of `views` of each, taken for its own class.
            row_as: see `Candidates`.
            yaw_rad: (N,) heading; NaN where unknown.
            views: where they are.
        """
        # As of the first box and its word, which most have no more of.
        first = [members[0] for members in together]
        groups = Groups(
            together,
            [self._class_names[k] for k in label[first].tolist()],
            own[first][:, None].tolist(),
            yaw_rad[first].tolist(),
        )
        more = {g for g, members in enumerate(together) if len(members) > 1}
        if boxes.doubled:
            more.update(g for g, members in enumerate(together) if members[0] in boxes.doubled)
        rows_of, own_rows, yaws = row_as.tolist(), own.tolist(), yaw_rad.tolist()
        mixtures: list[Mixture] = []
        for g in sorted(more):
            members = together[g]
            says = boxes.verdicts(members)
            groups.names[g] = next(iter(says))
            k = self._class_number[groups.names[g]]
            # Two cameras that share nothing may be joined by a third whose word for it one of them never heard.
            rows = groups.rows[g] = [rows_of[i][k] if rows_of[i][k] >= 0 else own_rows[i] for i in members]
            headed = [yaws[i] for i in members if not math.isnan(yaws[i])]
            groups.yaws_rad[g] = headed[0] if headed else math.nan
            if len(says) > 1 and any(i in boxes.doubled for i in members):
                in_doubt = [(self._class_number[word], score) for word, score in says.items()]
                for n, i in enumerate(members):
                    may = [(rows_of[i][k], score) for k, score in in_doubt if rows_of[i][k] >= 0]
                    if len(may) > 1 and may[0][0] == rows[n]:
                        rows[n] = len(views.known) + len(mixtures)
                        mixtures.append(([row for row, _ in may], [score for _, score in may]))
        return groups, mixed(views, mixtures)

    def _taken_for(
        self,
        boxes: Boxes,
        label: npt.NDArray[np.int64],
        camera: npt.NDArray[np.int64],
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Every box is placed once for each class that it may turn out to be.

        Returns:
            (N, K) row of box n taken for class k, -1 where it cannot be; the box of each row; the class of each row.
        """
        mine = np.zeros((len(label), len(self._class_group)), bool)
        called = np.zeros(
            (len(self._camera_number), len(self._class_group)), bool
        )  # by each camera, anything
        mine[np.arange(len(label)), label] = True
        called[camera, label] = True
        for i, says in boxes.doubled.items():
            for name, _ in says:
                mine[i, self._class_number[name]] = called[camera[i], self._class_number[name]] = True
        beside = self._overlaps @ called  # what its neighbours do
        may = (mine | beside[camera]) & (self._class_group[label][:, None] == self._class_group)
        row_as = np.where(may, np.cumsum(may).reshape(may.shape) - 1, -1)
        return row_as, *may.nonzero()

    def _groups_of(self, predictions: Sequence[Prediction]) -> npt.NDArray[np.int64]:
        """(T,) number of the class group of each; -1 where the ontology has none."""
        labels = [prediction.label for prediction in predictions]
        for label in set(labels).difference(self._group_of):
            entry = self._ontology.find(label)
            self._group_of[label] = -1 if entry is None else self._group_number[entry.group]
        return np.array(list(map(self._group_of.__getitem__, labels)), np.int64)

    def _under(
        self,
        rays: BoxRays,
        camera: npt.NDArray[np.int64],
        cues: Cues,
        own: npt.NDArray[np.int64],
        sure: npt.NDArray[np.bool_],
        stamp_ns: int | None,
    ) -> GroundUnder:
        """The ground under each box, after the boxes of this timestep had their say; `own`: their rows of `cues`."""
        has_height, u_height = cues.has_height[own], cues.u_height[own]
        contact_z, contact_var = cues.contact_z_m[own], cues.contact_var_m2[own]
        if self._histogram is not None:
            run = 1 / u_height[sure]
            pitch = math.radians(self._settings.pitch_sigma_deg)
            sigma = np.sqrt(contact_var[sure]) + pitch * run
            self._histogram.add(contact_z[sure], sigma**-2.0)
            self._mount = self._ground = self._histogram.ground()
        if self._surface is None or not math.isfinite(self._mount.z_m):
            return flat_under(self._ground, len(sure), self._settings)
        # Without a height of its own a box is asked about where the flat ground would have it.
        drop = np.maximum(-rays.tan_low, 0.01)
        run = (rays.origin_m[:, 2] - self._mount.z_m) / drop
        run = np.minimum(np.maximum(run, 1.0), self._settings.max_range_m)
        run = np.where(has_height, 1 / np.where(has_height, u_height, 1.0), run)
        toward = np.stack([np.cos(rays.azimuth_rad), np.sin(rays.azimuth_rad)], axis=1)
        contact = rays.origin_m[:, :2] + run[:, None] * toward
        told = np.where(sure, contact_z, np.nan)
        under = self._surface.look(self._mount, contact, run, camera, told, contact_var, stamp_ns)
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
