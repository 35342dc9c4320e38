"""The detections of one timestep that count, as columns; and who decides which do."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perception_batch.calibration import FloatArray
from perception_batch.config import CameraConfig
from perception_batch.errors import printable
from perception_batch.fusion.suppress import LabelRule, duplicates, reasons_against, rule_for
from perception_batch.ontology import Ontology
from perception_batch.types import Detections, Observation, SuppressedReason

logger = logging.getLogger(__name__)

Evidence = tuple[tuple[str, float], ...]
"""Class names and scores."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """N detections that count, sorted by camera and number."""

    parts: Mapping[str, slice]
    """By camera, in alphabetical order: which of them are its; every camera of the timestep is there."""
    rows: Sequence[int]
    """Their rows among all detections of the timestep, camera after camera."""
    xyxy: FloatArray
    """(N, 4) px of the original images."""
    observations: Sequence[Observation]
    """Their cameras and numbers."""
    scores: Sequence[float]
    """Of the detections."""
    rules: Sequence[LabelRule]
    """What its camera makes of its label."""
    doubled: Mapping[int, Evidence]
    """By box in whose favour duplicates were suppressed: what it and they say, its own word first."""

    def take(self, numbers: Sequence[int]) -> Boxes:
        """Those of these numbers, which rise; whose they are is not told any more."""
        mine = {i: n for n, i in enumerate(numbers)}
        return Boxes(
            {},
            [self.rows[i] for i in numbers],
            self.xyxy[numbers],
            [self.observations[i] for i in numbers],
            [self.scores[i] for i in numbers],
            [self.rules[i] for i in numbers],
            {mine[i]: says for i, says in self.doubled.items() if i in mine},
        )

    def says(self, box: int) -> Evidence:
        """Class name and score of a box and of its duplicates."""
        return self.doubled.get(box) or ((self.rules[box].name, self.scores[box]),)

    def verdicts(self, members: Sequence[int]) -> dict[str, float]:
        """What some boxes say for each class, the sum of scores: by falling sum, ties by name."""
        sums: dict[str, float] = {}
        for box in members:
            for name, score in self.says(box):
                sums[name] = sums.get(name, 0.0) + score
        return dict(sorted(sums.items(), key=lambda entry: (-entry[1], entry[0])))


class BoxSelector:
    """Decides which detections count: thresholds, wanted classes, ego masks, duplicates."""

    def __init__(
        self,
        ontology: Ontology,
        labels: Mapping[int, str],
        cameras: Mapping[str, CameraConfig],
        *,
        detect_score: float | Mapping[str, float],
        detect_classes: tuple[str, ...],
        duplicate_iou: float,
    ) -> None:
        self._ontology = ontology
        self._labels = labels
        self._cameras = cameras
        self._plain = CameraConfig()  # for cameras that the config does not name
        self._score = detect_score
        self._classes = detect_classes
        self._duplicate_iou = duplicate_iou
        self._rules: dict[str, dict[int, LabelRule]] = {}
        self._observations: dict[str, list[Observation]] = {}
        self._named: set[str] = set()

    def select(self, detections: Mapping[str, Detections]) -> tuple[Boxes, dict[str, list[SuppressedReason]]]:
        """The boxes that count, and by camera the reasons against those that do not; empty text where there is none."""
        rules: list[LabelRule] = []  # these lists are of all detections, camera after camera
        scores: list[float] = []
        reasons: list[SuppressedReason] = []
        observations: list[Observation] = []
        alive: list[int] = []  # in each camera by falling score
        counts: list[int] = []
        starts = [0]
        for camera, found in sorted(detections.items()):
            mine = list(self._rules_of(camera, found.class_id.tolist()))
            reasons += reasons_against(found, mine, self._cameras.get(camera, self._plain).mask)
            rules += mine
            scores += found.score.tolist()
            observations += self._observed(camera, len(found))
            order = [k for k in range(starts[-1], len(rules)) if not reasons[k]]
            order.sort(key=scores.__getitem__, reverse=True)  # equal ones stay in order
            alive += order
            counts.append(len(order))
            starts.append(len(rules))
        cameras = sorted(detections)
        every = [detections[camera].xyxy for camera in cameras]
        xyxy = np.concatenate(every).astype(np.float64) if every else np.zeros((0, 4))
        doubled: dict[int, Evidence] = {}
        if alive:
            of = np.arange(len(counts)).repeat(counts)
            same = duplicates(xyxy[alive], of, [rules[k].group for k in alive], self._duplicate_iou)
            for row, others in same.items():
                both = [alive[row], *(alive[other] for other in others)]
                doubled[both[0]] = tuple((rules[k].name, scores[k]) for k in both)
                for k in both[1:]:
                    reasons[k] = "duplicate"
        rows = [k for k, reason in enumerate(reasons) if not reason]
        bounds = [bisect_left(rows, start) for start in starts]
        boxes = Boxes(
            {camera: slice(bounds[n], bounds[n + 1]) for n, camera in enumerate(cameras)},
            rows,
            xyxy[rows],
            list(map(observations.__getitem__, rows)),
            list(map(scores.__getitem__, rows)),
            list(map(rules.__getitem__, rows)),
            {bisect_left(rows, k): says for k, says in doubled.items()},
        )
        self._name_unknown(boxes.rules)
        return boxes, {camera: reasons[starts[n] : starts[n + 1]] for n, camera in enumerate(cameras)}

    def _rules_of(self, camera: str, numbers: Sequence[int]) -> Iterator[LabelRule]:
        """The rule of each of a camera's detections, by the model's class numbers."""
        known = self._rules.setdefault(camera, {})
        for number in set(numbers).difference(known):
            known[number] = self._rule(camera, number)
        return map(known.__getitem__, numbers)

    def _rule(self, camera: str, number: int) -> LabelRule:
        config = self._cameras.get(camera, self._plain)
        scores: list[float | Mapping[str, float]] = [self._score]
        if config.score is not None:
            scores.insert(0, config.score)
        return rule_for(
            self._labels.get(number, f"class {number}"),
            self._ontology,
            frozenset(self._labels.values()),
            self._classes if config.classes is None else config.classes,
            scores,
        )

    def _observed(self, camera: str, count: int) -> list[Observation]:
        """A camera's first so many detections by name; they are the same in every timestep, so they are made once."""
        made = self._observations.setdefault(camera, [])
        made.extend(Observation(camera, number) for number in range(len(made), count))
        return made[:count]

    def _name_unknown(self, rules: Sequence[LabelRule]) -> None:
        for rule in rules:
            if rule.entry is None and rule.name not in self._named:
                self._named.add(rule.name)
                logger.warning(
                    "label %s is not in the ontology: its boxes get no position and are not merged",
                    printable(rule.name),
                )
