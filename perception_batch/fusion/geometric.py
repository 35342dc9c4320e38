"""The fuser of this version: geometry alone, one timestep at a time."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray, Rig
from perception_batch.config import CameraConfig, FuseConfig
from perception_batch.errors import printable
from perception_batch.fusion.associate import Candidates, associate
from perception_batch.fusion.ground import Ground, GroundEstimator, find_ground
from perception_batch.fusion.lens import BoxRays, RayTable, box_rays, low_edge
from perception_batch.fusion.overlap import overlapping
from perception_batch.fusion.position import Sizes, Views, locate
from perception_batch.fusion.suppress import LabelRule, inside_any, rule_for, suppress
from perception_batch.geometry import SE3
from perception_batch.ontology import ObjectClass, Ontology
from perception_batch.types import Detections, FusedObject, Fusion, Observation, SuppressedReason

logger = logging.getLogger(__name__)

_GROUND_SCORE = 0.5  # boxes that teach the ground's height are this sure


@dataclass(frozen=True, slots=True)
class _Box:
    """One detection that counts."""

    observation: Observation
    score: float
    rule: LabelRule
    evidence: tuple[tuple[str, float], ...]
    """Class name and score of itself and of the duplicates suppressed in its favour."""


class GeometricFuser:
    """Objects from bearings, ground contact, box heights and class sizes; see `open_fuser`.

    Its only memory is the running estimate of the ground's height, and that only where neither the config,
    the log nor the mount tells it.
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
        self._ground = find_ground(rig, settings)
        self._estimator = (
            GroundEstimator(settings.ground_sigma_m) if self._ground.source == "unknown" else None
        )
        self._rules: dict[tuple[str, int], LabelRule] = {}
        self._tables: dict[tuple[str, tuple[int, int]], RayTable | None] = {}
        self._named: set[str] = set()
        self._ids = self._ids_of_classes()
        self._camera_number = {name: i for i, name in enumerate(sorted(rig.cameras))}
        self._overlaps = np.zeros((len(rig.cameras),) * 2, bool)
        for a, b in overlapping(rig):
            i, j = self._camera_number[a], self._camera_number[b]
            self._overlaps[i, j] = self._overlaps[j, i] = True

    @property
    def ground(self) -> Ground:
        """Where the ground is in the base frame, as far as known now, and how that is known."""
        return self._ground

    def fuse(
        self,
        detections: Mapping[str, Detections],
        image_hw: Mapping[str, tuple[int, int]],
        base_now_SE3_camera: Mapping[str, SE3],
    ) -> Fusion:
        """Objects of one timestep; see `Fuser.fuse`."""
        suppressed: dict[str, tuple[SuppressedReason, ...]] = {}
        boxes: list[_Box] = []
        rays: list[BoxRays] = []
        seeing: list[int] = []  # positions in `boxes` of those with rays, in the order of `rays`
        for camera in sorted(detections):
            found = detections[camera]
            kept, reasons = self._kept(camera, found)
            suppressed[camera] = reasons
            if not kept:
                continue
            table = self._table(camera, image_hw[camera])
            if table is not None and camera in base_now_SE3_camera:
                rows = [b.observation.detection for b in kept]
                rays.append(
                    self._rays(camera, found, rows, table, image_hw[camera], base_now_SE3_camera[camera])
                )
                seeing.extend(range(len(boxes), len(boxes) + len(kept)))
            boxes.extend(kept)
        # An unknown label has no size and no group, so no position and no partners.
        known = [k for k, i in enumerate(seeing) if boxes[i].rule.entry is not None]
        located = [seeing[k] for k in known]
        objects: list[FusedObject] = []
        if located:
            joined = BoxRays.join(rays).take(np.array(known, np.int64))
            objects = self._located(boxes, located, joined)
        rest = sorted(set(range(len(boxes))) - set(located))
        objects += [self._object([boxes[i]], None, []) for i in rest]
        objects.sort(key=lambda o: (-o.score, [(v.camera, v.detection) for v in o.observations]))
        object_of = {camera: np.full(len(found), -1, np.int32) for camera, found in detections.items()}
        for number, item in enumerate(objects):
            for seen in item.observations:
                object_of[seen.camera][seen.detection] = number
        return Fusion(tuple(objects), object_of, {camera: suppressed[camera] for camera in detections})

    def _kept(self, camera: str, found: Detections) -> tuple[list[_Box], tuple[SuppressedReason, ...]]:
        rules = [self._rule(camera, number) for number in found.class_id.tolist()]
        config = self._cameras.get(camera)
        reasons, duplicates = suppress(
            found, rules, config.mask if config else (), self._settings.duplicate_iou
        )
        scores = found.score.tolist()
        kept = [
            _Box(
                Observation(camera, i),
                scores[i],
                rules[i],
                tuple((rules[j].name, scores[j]) for j in (i, *duplicates.get(i, ()))),
            )
            for i, reason in enumerate(reasons)
            if not reason
        ]
        for box in kept:
            if box.rule.entry is None and box.rule.name not in self._named:
                self._named.add(box.rule.name)
                logger.warning(
                    "label %s is not in the ontology: its boxes get no position and are not merged",
                    printable(box.rule.name),
                )
        return kept, tuple(reasons)

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

    def _ids_of_classes(self) -> dict[str, int]:
        """The model's number for each ontology name: its own label of that name, else the first alias."""
        ids: dict[str, int] = {}
        for number in sorted(self._labels, reverse=True):
            entry = self._ontology.find(self._labels[number])
            ids[entry.name if entry else self._labels[number]] = number
        ids.update({label: number for number, label in sorted(self._labels.items(), reverse=True)})
        return ids

    def _table(self, camera: str, hw: tuple[int, int]) -> RayTable | None:
        """The camera's lens for images of this size; None without (usable) calibration, said once."""
        if camera not in self._rig.cameras:
            return None
        if (camera, hw) not in self._tables:
            lens = self._rig.cameras[camera].intrinsics
            table = None
            try:
                table = RayTable(
                    lens.scaled_to(hw[1], hw[0]) if (lens.height_px, lens.width_px) != hw else lens
                )
            except ValueError as error:
                logger.warning("camera %s: %s; its boxes get no position", printable(camera), error)
            self._tables[camera, hw] = table
        return self._tables[camera, hw]

    def _rays(
        self,
        camera: str,
        found: Detections,
        rows: Sequence[int],
        table: RayTable,
        hw: tuple[int, int],
        base_SE3_camera: SE3,
    ) -> BoxRays:
        xyxy = found.xyxy[list(rows)].astype(np.float64)
        config = self._cameras.get(camera, self._plain)
        hidden = np.zeros(len(rows), bool)
        if config.mask:
            hidden = _low_edge_hidden(xyxy, base_SE3_camera, config.mask)
        return box_rays(
            xyxy,
            table,
            base_SE3_camera,
            frame_px=config.roi_px or (0, 0, hw[1], hw[0]),
            hidden_low=hidden,
            fisheye=self._rig.cameras[camera].intrinsics.model == "equidistant",
        )

    def _located(self, boxes: list[_Box], rows: list[int], rays: BoxRays) -> list[FusedObject]:
        """Objects of the boxes (by their positions `rows` in `boxes`) whose rays are known."""
        chosen = [boxes[i] for i in rows]
        entries = self._classes_at_stake(chosen)
        names = {entry.name: k for k, entry in enumerate(entries)}
        groups = {entry.group: k for k, entry in enumerate(entries)}
        # Every box is placed once for each class that it may turn out to be.
        row_as = np.full((len(chosen), len(entries)), -1, np.int64)
        source: list[int] = []
        taken_for: list[ObjectClass] = []
        for i, box in enumerate(chosen):
            for k, entry in enumerate(entries):
                if entry.group == box.rule.group:
                    row_as[i, k] = len(source)
                    source.append(i)
                    taken_for.append(entry)
        limits = np.array([self._max_range(box.observation.camera) for box in chosen])
        index = np.array(source, np.int64)
        own_rows = [int(row_as[i, names[box.rule.name]]) for i, box in enumerate(chosen)]

        def look() -> Views:
            return locate(rays.take(index), Sizes.of(taken_for), self._ground, self._settings, limits[index])

        views = look()
        if self._estimator is not None:
            sure = np.array(
                [r for r, box in zip(own_rows, chosen, strict=True) if box.score >= _GROUND_SCORE], np.int64
            )
            self._estimator.add(views.contact_z_m[sure], views.contact_sigma_m[sure] ** -2.0)
            self._ground = self._estimator.ground()
            views = look()
        candidates = Candidates(
            np.array([self._camera_number[box.observation.camera] for box in chosen], np.int64),
            np.array([groups[box.rule.group] for box in chosen], np.int64),
            np.array([names[box.rule.name] for box in chosen], np.int64),
            row_as,
        )
        out = []
        for members in associate(candidates, views, self._overlaps, self._settings.gate_sigma):
            seen = [chosen[i] for i in members]
            k = names[_decide(seen)]
            out.append(self._object(seen, views, [int(row_as[i, k]) for i in members]))
        return out

    def _classes_at_stake(self, boxes: Sequence[_Box]) -> list[ObjectClass]:
        """The classes that any box or its duplicates were called, in the ontology's order."""
        present = {name for box in boxes for name, _ in box.evidence}
        return [entry for name, entry in self._ontology.classes.items() if name in present]

    def _max_range(self, camera: str) -> float:
        own = self._cameras.get(camera, self._plain).max_range_m
        return min(self._settings.max_range_m, own if own is not None else math.inf)

    def _object(self, seen: Sequence[_Box], views: Views | None, rows: Sequence[int]) -> FusedObject:
        """One object of boxes of different cameras."""
        name = _decide(seen)
        entry = self._ontology.classes.get(name) if seen[0].rule.entry else None
        usable = [] if views is None else [row for row in rows if views.known[row]]
        if views is not None and usable:
            position, covariance = _combine(views, usable)
        else:
            position, covariance = np.full(3, np.nan), np.full((3, 3), np.nan)
        miss = 1.0
        for box in seen:
            miss *= 1 - box.score
        return FusedObject(
            class_id=self._ids.get(name, -1),
            label=name,
            score=min(1.0, 1 - miss),
            position_m=position,
            covariance_m2=covariance,
            size_lwh_m=np.array(entry.size_lwh_m) if entry else np.full(3, np.nan),
            size_source="prior" if entry else "unknown",
            yaw_rad=math.nan,
            observations=tuple(sorted((b.observation for b in seen), key=lambda o: (o.camera, o.detection))),
        )


def _decide(seen: Sequence[_Box]) -> str:
    """The class with the largest sum of scores, duplicates' included; ties by name."""
    if len(seen) == 1 and len(seen[0].evidence) == 1:
        return seen[0].rule.name
    sums: dict[str, float] = {}
    for box in seen:
        for name, score in box.evidence:
            sums[name] = sums.get(name, 0.0) + score
    return min(sums, key=lambda name: (-sums[name], name))


def _combine(views: Views, rows: list[int]) -> tuple[FloatArray, FloatArray]:
    """(3,) position and (3, 3) covariance of one object from its views.

    Each view is weighted by the inverse of its whole covariance; the result's covariance then carries the
    shared errors in full, however many cameras look. Views that disagree widen it (Birge ratio).
    """
    if len(rows) == 1:
        return views.position_m[rows[0]].copy(), views.total_m2[rows[0]].copy()
    position_m, own, shared = views.position_m[rows], views.own_m2[rows], views.shared_m[rows]
    information = np.linalg.inv(views.total_m2[rows])
    weights = np.linalg.inv(information.sum(axis=0)) @ information
    position: FloatArray = (weights @ position_m[:, :, None])[:, :, 0].sum(axis=0)
    transposed = weights.transpose(0, 2, 1)
    together = (shared @ transposed).sum(axis=0)
    covariance = (weights @ own @ transposed).sum(axis=0) + together.T @ together
    apart = position_m - position
    spread = float((apart[:, None, :] @ information @ apart[:, :, None]).sum())
    covariance *= max(1.0, spread / (3 * (len(rows) - 1)))
    return position, 0.5 * (covariance + covariance.T)


def _low_edge_hidden(
    xyxy: FloatArray, base_SE3_camera: SE3, mask: Sequence[Sequence[tuple[float, float]]]
) -> npt.NDArray[np.bool_]:
    """(N,) whether the own vehicle covers the edge on which a box would stand."""
    edge = low_edge(base_SE3_camera)
    outward = -2.0 if edge < 2 else 2.0  # a box that ends where the mask begins is hidden too
    hidden = np.zeros(len(xyxy), bool)
    for share in (0.25, 0.5, 0.75):
        points = np.empty((len(xyxy), 2))
        other = 1 - edge % 2
        points[:, edge % 2] = xyxy[:, edge] + outward
        points[:, other] = xyxy[:, other] + share * (xyxy[:, other + 2] - xyxy[:, other])
        hidden |= inside_any(points, mask)
    return hidden
