"""A detector's mistakes: truth boxes in, detections out, so that what comes after can be tested without pixels.

Real detectors do not err like dice. A box that is too tall is too tall again in the next image; a pedestrian that
is missed once is missed for half a second; a reflection on the bonnet is a car for two seconds; a van stays a
truck for as long as it is seen. `CorrelatedNoise` errs like that. `IndependentNoise` makes the same mistakes as
often, but every image is thrown anew: figures from it alone flatter whatever filters over time.

Everything is drawn from generators seeded by (seed, purpose, camera, object), so the same calls in the same order
give the same boxes.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from perception_batch.calibration import Camera
from perception_batch.geometry import SE3
from perception_batch.ontology import ObjectClass, Ontology
from perception_batch.simulate.false_boxes import FalseBoxes, independent_false_boxes
from perception_batch.simulate.noise_settings import LABELS, NoiseSettings, TruthBox, TruthImage
from perception_batch.types import Detections

__all__ = [
    "LABELS",
    "CorrelatedNoise",
    "DetectorNoise",
    "IndependentNoise",
    "NoiseSettings",
    "TruthBox",
    "TruthImage",
    "noise_detections",
]

_CLASS_IDS = {name: number for number, name in LABELS.items()}
_FORGET_AFTER_S = 60.0
_LOWEST_SCORE = 0.26


class DetectorNoise(Protocol):
    """Truth boxes of one image in, a detector's answer out."""

    @property
    def labels(self) -> Mapping[int, str]:
        """The class numbers of the answers."""

    def detect(
        self,
        frame_truth: Sequence[TruthBox],
        camera: Camera | str,
        stamp_ns: int,
        image_hw: tuple[int, int],
        *,
        odom_SE3_base: SE3 | None = None,
    ) -> Detections:
        """Detections of one image; images come in order of time."""


def noise_detections(
    images: Iterable[TruthImage], noise: DetectorNoise
) -> Iterator[tuple[int, str, Detections]]:
    """Timestep, camera and detections of each image, in the order given, one at a time."""
    for image in images:
        name = image.camera if isinstance(image.camera, str) else image.camera.name
        found = noise.detect(
            image.boxes, image.camera, image.true_ns, image.image_hw, odom_SE3_base=image.odom_SE3_base
        )
        yield image.timestep, name, found


def generator(seed: int, purpose: str, *parts: str | int) -> np.random.Generator:
    """A generator that belongs to one purpose, and to a camera or an object where `parts` name them."""
    words = [purpose, *map(str, parts)]
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([seed, *(zlib.crc32(word.encode()) for word in words)]))
    )


class _Walk:
    """A Gauss-Markov walk of unit variance: what it was fades with exp(-time/memory)."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._value = float(rng.standard_normal())
        self._stamp_ns: int | None = None

    def at(self, stamp_ns: int, memory_s: float) -> float:
        if self._stamp_ns is not None and stamp_ns > self._stamp_ns:
            keep = math.exp(-(stamp_ns - self._stamp_ns) * 1e-9 / memory_s)
            self._value = keep * self._value + math.sqrt(1 - keep * keep) * float(self._rng.standard_normal())
        self._stamp_ns = stamp_ns if self._stamp_ns is None else max(stamp_ns, self._stamp_ns)
        return self._value


@dataclass(slots=True)
class _Thing:
    """What all cameras share about one object."""

    bias: np.ndarray  # (4,) unit normals: centre x, centre y, width, height
    miss: _Walk
    seen_ns: int = 0


@dataclass(slots=True)
class _View:
    """What one camera gets wrong about one object, for as long as it sees it."""

    rng: np.random.Generator
    bias: np.ndarray
    miss: _Walk
    double: _Walk
    confusion: float
    """Uniform 0..1; confused below the rate."""
    other: float
    """Uniform 0..1; picks the wrong class."""
    seen_ns: int = 0


@dataclass
class _Noise:
    """What both kinds share: rates and the making of one box."""

    seed: int
    settings: NoiseSettings = field(default_factory=NoiseSettings)

    def __post_init__(self) -> None:
        self._ontology = Ontology()
        self._weight_sum = 0.0
        self._weight_count = 0

    @property
    def labels(self) -> Mapping[int, str]:
        """Class numbers and names, COCO's."""
        return LABELS

    def _entry(self, label: str) -> ObjectClass:
        entry = self._ontology.find(label)
        if entry is None or entry.name not in _CLASS_IDS:
            raise ValueError(f"truth label {label!r} is none of {', '.join(LABELS.values())}")
        return entry

    def _miss_probability(self, truth: TruthBox) -> float:
        """From size and visibility, scaled so that the mean over all boxes so far is the rate."""
        s = self.settings
        height = max(1.0, truth.box_px[3] - truth.box_px[1])
        hidden = 1 - min(1.0, max(0.0, truth.visible_fraction))
        weight: float = height**-s.miss_by_size * math.exp(s.miss_by_occlusion * hidden)
        self._weight_sum += weight
        self._weight_count += 1
        return min(0.95, s.miss_rate * weight * self._weight_count / self._weight_sum)

    def _confused(self, entry: ObjectClass, drawn: float, pick: float) -> ObjectClass:
        if drawn >= self.settings.confusion_rate:
            return entry
        mates = [
            other
            for other in self._ontology.classes.values()
            if other.group == entry.group and other.name != entry.name and other.name in _CLASS_IDS
        ]
        return mates[int(pick * len(mates))] if mates else entry

    def _moved(
        self, truth: TruthBox, bias: np.ndarray, jitter: np.ndarray, image_hw: tuple[int, int]
    ) -> tuple[float, float, float, float]:
        """The box with wrong centre and size. An edge on the image's border stays: the cut is no guess."""
        s = self.settings
        if s.bias == 0 and s.jitter == 0:
            return truth.box_px
        left, top, right, bottom = truth.box_px
        w, h = right - left, bottom - top
        dx, dy, dw, dh = (s.bias * bias + s.jitter * jitter).clip(-0.4, 0.4).tolist()
        height, width = image_hw
        new_left = left + (dx - dw / 2) * w if left > 0.5 else left
        new_right = right + (dx + dw / 2) * w if right < width - 0.5 else right
        new_top = top + (dy - dh / 2) * h if top > 0.5 else top
        new_bottom = bottom + (dy + dh / 2) * h if bottom < height - 0.5 else bottom
        return (
            min(max(new_left, 0.0), width),
            min(max(new_top, 0.0), height),
            min(max(new_right, 0.0), width),
            min(max(new_bottom, 0.0), height),
        )

    def _score(self, margin: float, rng: np.random.Generator) -> float:
        """Low where the box was nearly missed (`margin` in standard deviations above the threshold)."""
        if not self.settings.draw_scores:
            return 1.0
        raw = 0.92 - 0.55 * math.exp(-max(0.0, margin)) + 0.03 * float(rng.standard_normal())
        return min(0.99, max(_LOWEST_SCORE, raw))


class CorrelatedNoise(_Noise):
    """Mistakes that last, as real detectors make them. Images come in order of time (any order of cameras).

    Whether a box is missed is decided by a Gauss-Markov walk per object (half common to all cameras) against the
    quantile that size and visibility give, so that the share of misses is exact and misses come in runs.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._things: dict[int, _Thing] = {}
        self._views: dict[tuple[int, str], _View] = {}
        self._false = FalseBoxes(
            self.seed,
            self.settings.false_rate,
            self.settings.false_life_frames,
            self.settings.false_on_vehicle,
            self._ontology,
        )
        self._swept_ns = 0

    def detect(
        self,
        frame_truth: Sequence[TruthBox],
        camera: Camera | str,
        stamp_ns: int,
        image_hw: tuple[int, int],
        *,
        odom_SE3_base: SE3 | None = None,
    ) -> Detections:
        """Detections of one image, by falling score.

        Args:
            frame_truth: the true boxes of the image.
            camera: the camera, or its name where its lens is unknown.
            stamp_ns: exposure; never before that of an earlier call for the same camera.
            image_hw: height and width of the image, px.
            odom_SE3_base: the vehicle at that time, for false boxes that keep to a place of the world.

        Raises:
            ValueError: a label that the default ontology does not have.
        """
        s = self.settings
        name = camera if isinstance(camera, str) else camera.name
        rows: list[tuple[tuple[float, float, float, float], float, int]] = []
        for truth in frame_truth:
            entry = self._entry(truth.label)
            thing, view = self._thing(truth.object_id), self._view(truth.object_id, name)
            thing.seen_ns = view.seen_ns = stamp_ns
            # Half the variance common, half the camera's own: neighbours often, not always, miss together.
            level = math.sqrt(0.5) * (
                thing.miss.at(stamp_ns, s.miss_memory_s) + view.miss.at(stamp_ns, s.miss_memory_s)
            )
            threshold = normal_quantile(self._miss_probability(truth))
            jitter = view.rng.standard_normal(4)
            score = self._score(level - threshold, view.rng)
            double = view.double.at(stamp_ns, s.double_memory_s) < normal_quantile(s.double_rate)
            beside, lower = view.rng.standard_normal(4), float(view.rng.uniform(0.5, 0.9))
            if level < threshold:
                continue
            bias = math.sqrt(0.5) * (thing.bias + view.bias)
            shown = self._confused(entry, view.confusion, view.other)
            rows.append((self._moved(truth, bias, jitter, image_hw), score, _CLASS_IDS[shown.name]))
            if double and shown.group == "vehicle":
                second = _CLASS_IDS["car" if shown.name == "truck" else "truck"]
                box = self._moved(truth, bias, jitter + 0.5 * beside, image_hw)
                rows.append((box, max(_LOWEST_SCORE, score * lower), second))
        if s.false_rate > 0:
            found = self._false.of_image(len(frame_truth), camera, stamp_ns, image_hw, odom_SE3_base)
            rows += [(false.box_px, false.score, _CLASS_IDS[false.label]) for false in found]
        self._forget(stamp_ns)
        return _detections(rows)

    def _thing(self, object_id: int) -> _Thing:
        known = self._things.get(object_id)
        if known is None:
            rng = generator(self.seed, "thing", object_id)
            known = self._things[object_id] = _Thing(rng.standard_normal(4), _Walk(rng))
        return known

    def _view(self, object_id: int, camera: str) -> _View:
        known = self._views.get((object_id, camera))
        if known is None:
            rng = generator(self.seed, "view", camera, object_id)
            confusion, other = rng.random(2).tolist()
            bias = rng.standard_normal(4)
            known = self._views[object_id, camera] = _View(
                rng,
                bias,
                _Walk(generator(self.seed, "miss", camera, object_id)),
                _Walk(generator(self.seed, "double", camera, object_id)),
                confusion,
                other,
            )
        return known

    def _forget(self, stamp_ns: int) -> None:
        """Memory must not grow with the drive. Who comes back later finds the same bias: it is seeded by name."""
        if stamp_ns - self._swept_ns < _FORGET_AFTER_S * 1e9:
            return
        self._swept_ns = stamp_ns
        oldest = stamp_ns - round(_FORGET_AFTER_S * 1e9)
        self._things = {key: thing for key, thing in self._things.items() if thing.seen_ns >= oldest}
        self._views = {key: view for key, view in self._views.items() if view.seen_ns >= oldest}


class IndependentNoise(_Noise):
    """The same mistakes as often, thrown anew for every box of every image."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._rngs: dict[str, np.random.Generator] = {}

    def detect(
        self,
        frame_truth: Sequence[TruthBox],
        camera: Camera | str,
        stamp_ns: int,  # noqa: ARG002  nothing lasts, so time does not matter
        image_hw: tuple[int, int],
        *,
        odom_SE3_base: SE3 | None = None,  # noqa: ARG002
    ) -> Detections:
        """Detections of one image, by falling score; arguments and errors as for `CorrelatedNoise`."""
        s = self.settings
        name = camera if isinstance(camera, str) else camera.name
        rng = self._rngs.get(name)
        if rng is None:
            rng = self._rngs[name] = generator(self.seed, "independent", name)
        rows: list[tuple[tuple[float, float, float, float], float, int]] = []
        for truth in frame_truth:
            entry = self._entry(truth.label)
            threshold = normal_quantile(self._miss_probability(truth))
            level = float(rng.standard_normal())
            bias, jitter, beside = rng.standard_normal((3, 4))
            confusion, other, double, lower = rng.random(4).tolist()
            score = self._score(level - threshold, rng)
            if level < threshold:
                continue
            shown = self._confused(entry, confusion, other)
            rows.append((self._moved(truth, bias, jitter, image_hw), score, _CLASS_IDS[shown.name]))
            if double < s.double_rate and shown.group == "vehicle":
                second = _CLASS_IDS["car" if shown.name == "truck" else "truck"]
                box = self._moved(truth, bias, jitter + 0.5 * beside, image_hw)
                rows.append((box, max(_LOWEST_SCORE, score * (0.5 + 0.4 * lower)), second))
        if s.false_rate > 0:
            found = independent_false_boxes(rng, s.false_rate * len(frame_truth), image_hw)
            rows += [(false.box_px, false.score, _CLASS_IDS[false.label]) for false in found]
        return _detections(rows)


def normal_quantile(probability: float) -> float:
    """Where the standard normal distribution reaches `probability`; infinite at 0 and 1."""
    from statistics import NormalDist

    if probability <= 0:
        return -math.inf
    return math.inf if probability >= 1 else NormalDist().inv_cdf(probability)


def _detections(rows: list[tuple[tuple[float, float, float, float], float, int]]) -> Detections:
    if not rows:
        return Detections.empty()
    order = sorted(range(len(rows)), key=lambda i: -rows[i][1])  # stable: ties stay in order of the truth
    return Detections(
        np.array([rows[i][0] for i in order], np.float32),
        np.array([rows[i][1] for i in order], np.float32),
        np.array([rows[i][2] for i in order], np.int16),
    )
