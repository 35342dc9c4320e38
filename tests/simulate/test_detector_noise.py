"""The noise keeps its rates, lasts where it should, and is the truth where it is clean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.calibration import Camera, Intrinsics
from perception_batch.geometry import SE3, box_iou
from perception_batch.ontology import Ontology
from perception_batch.simulate.detector_noise import (
    LABELS,
    CorrelatedNoise,
    DetectorNoise,
    IndependentNoise,
    NoiseSettings,
    TruthBox,
    TruthImage,
    noise_detections,
)
from perception_batch.types import Detections

HW = (600, 1200)
STEP = 100_000_000
KINDS = [CorrelatedNoise, IndependentNoise]
QUIET = NoiseSettings.clean()
ROTATION = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
"""base_SE3_camera of a camera that looks ahead."""
FRONT = Camera(
    "front",
    Intrinsics("pinhole", HW[1], HW[0], 700, 700, 599.5, 299.5),
    SE3(ROTATION, np.array([1.5, 0.0, 1.6])),
    "test",
)
LEFT = Camera(
    "left",
    FRONT.intrinsics,
    SE3(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]) @ ROTATION, np.array([1.0, 0.5, 1.6])),
    "test",
)


def row_of_boxes(count: int = 20, label: str = "car", size: float = 40.0) -> list[TruthBox]:
    """Boxes that never overlap, whatever the noise."""
    return [
        TruthBox(i, label, (5.5 + 59 * i, 300.0, 5.5 + 59 * i + size, 300.0 + size)) for i in range(count)
    ]


def hits(boxes: Sequence[TruthBox], found: Detections) -> np.ndarray:
    """(N,) whether each truth box was found."""
    truth = np.array([b.box_px for b in boxes]).reshape(-1, 4)
    return (box_iou(found.xyxy, truth) > 0.55).any(axis=0) if len(found) else np.zeros(len(boxes), bool)


def histories(noise: DetectorNoise, boxes: Sequence[TruthBox], frames: int) -> np.ndarray:
    """(frames, boxes) whether each was found."""
    return np.array([hits(boxes, noise.detect(boxes, "front", i * STEP, HW)) for i in range(frames)])


def mean_run(missed: np.ndarray) -> float:
    """Mean length of runs of misses, by walking through them."""
    lengths = []
    for column in missed.T:
        length = 0
        for miss in [*column.tolist(), False]:
            if miss:
                length += 1
            elif length:
                lengths.append(length)
                length = 0
    return float(np.mean(lengths))


def same(a: Detections, b: Detections) -> bool:
    return all(
        x.tobytes() == y.tobytes()
        for x, y in zip((a.xyxy, a.score, a.class_id), (b.xyxy, b.score, b.class_id), strict=True)
    )


truth_boxes = st.lists(
    st.builds(
        lambda i, label, x, y, w, h, v: TruthBox(i, label, (x, y, min(x + w, 1200), min(y + h, 600)), v),
        st.integers(1, 30),
        st.sampled_from([*LABELS.values(), "van", "Pedestrian"]),
        st.floats(0, 1190),
        st.floats(0, 590),
        st.floats(1, 500),
        st.floats(1, 500),
        st.floats(0.01, 1),
    ),
    max_size=12,
    unique_by=lambda box: box.object_id,
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(boxes=truth_boxes, seed=st.integers(0, 2**32))
def test_clean_is_the_truth_exactly(kind: type, boxes: list[TruthBox], seed: int) -> None:
    ontology = Ontology()
    noise = kind(seed, QUIET)
    for stamp in (0, STEP):
        found = noise.detect(boxes, FRONT, stamp, HW, odom_SE3_base=SE3.identity())
        assert (found.xyxy == np.array([b.box_px for b in boxes], np.float32).reshape(-1, 4)).all()
        assert (found.score == 1).all()
        for box, number in zip(boxes, found.class_id.tolist(), strict=True):
            entry = ontology.find(box.label)
            assert entry is not None
            assert noise.labels[number] == entry.name


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(images=st.lists(truth_boxes, min_size=1, max_size=6), seed=st.integers(0, 2**32))
def test_detections_are_whole_and_the_same_again(kind: type, images: list[list[TruthBox]], seed: int) -> None:
    one, two = kind(seed), kind(seed)
    for i, boxes in enumerate(images):
        found = one.detect(boxes, FRONT, i * STEP, HW, odom_SE3_base=SE3.identity())
        assert same(found, two.detect(boxes, FRONT, i * STEP, HW, odom_SE3_base=SE3.identity()))
        assert np.isfinite(found.xyxy).all()
        assert (found.xyxy >= 0).all()
        assert (found.xyxy <= (1200, 600, 1200, 600)).all()
        assert (found.xyxy[:, :2] <= found.xyxy[:, 2:]).all()
        assert (np.diff(found.score) <= 0).all()
        assert ((found.score > 0.25) & (found.score <= 0.99)).all()
        assert set(found.class_id.tolist()) <= set(LABELS)


def test_another_seed_is_another_noise() -> None:
    boxes = row_of_boxes()
    for kind in KINDS:
        assert not same(kind(1).detect(boxes, "front", 0, HW), kind(2).detect(boxes, "front", 0, HW))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.4])
def test_share_of_misses(kind: type, rate: float) -> None:
    boxes = row_of_boxes()
    frames = 500
    missed = ~histories(kind(4, replace(QUIET, miss_rate=rate)), boxes, frames)
    # Correlated draws count for less: a track of memory tau has about frames x dt / (2 tau) independent ones.
    independent = len(boxes) * (frames if kind is IndependentNoise else frames * 0.1 / 2)
    assert abs(missed.mean() - rate) < 4 * math.sqrt(rate * (1 - rate) / independent)


def test_misses_come_in_runs_only_where_they_should() -> None:
    boxes, settings_ = row_of_boxes(), replace(QUIET, miss_rate=0.1)
    correlated = mean_run(~histories(CorrelatedNoise(3, settings_), boxes, 400))
    independent = mean_run(~histories(IndependentNoise(3, settings_), boxes, 400))
    assert independent == pytest.approx(1 / 0.9, abs=0.08)  # geometric
    assert correlated > 2 * independent
    longer = mean_run(~histories(CorrelatedNoise(3, replace(settings_, miss_memory_s=5.0)), boxes, 400))
    assert longer > 1.3 * correlated


def test_runs_last_in_time_and_not_in_frames() -> None:
    boxes, noise = row_of_boxes(), CorrelatedNoise(3, replace(QUIET, miss_rate=0.1))
    seen = np.array([hits(boxes, noise.detect(boxes, "front", i * 20 * STEP, HW)) for i in range(400)])
    assert mean_run(~seen) < 1.5  # two seconds apart: nearly independent


@pytest.mark.parametrize("kind", KINDS)
def test_small_and_hidden_ones_are_missed_more(kind: type) -> None:
    large, small = (
        row_of_boxes(10, size=40),
        [
            TruthBox(100 + b.object_id, b.label, (b.box_px[0], 100, b.box_px[0] + 20, 110))
            for b in row_of_boxes(10)
        ],
    )
    hidden = [replace(b, object_id=b.object_id + 200, box_px=(b.box_px[0], 450, b.box_px[2], 490), visible_fraction=0.2) for b in large]  # fmt: skip
    missed = ~histories(kind(3, replace(QUIET, miss_rate=0.2)), [*large, *small, *hidden], 500)
    of_large, of_small, of_hidden = (missed[:, k : k + 10].mean() for k in (0, 10, 20))
    assert of_small > 1.5 * of_large
    assert of_hidden > 1.5 * of_large
    assert missed.mean() == pytest.approx(0.2, abs=0.05)


def test_neighbouring_cameras_often_miss_together() -> None:
    boxes, noise = row_of_boxes(), CorrelatedNoise(3, replace(QUIET, miss_rate=0.1))
    pairs = [[hits(boxes, noise.detect(boxes, c, i * STEP, HW)) for c in ("a", "b")] for i in range(500)]
    missed = ~np.array(pairs)
    together = (missed[:, 0] & missed[:, 1]).mean()
    assert 0.1**2 * 1.5 < together < 0.1 * 0.8


@pytest.mark.parametrize("kind", KINDS)
def test_size_of_errors(kind: type) -> None:
    boxes = [replace(b, object_id=i * 20 + b.object_id) for i in range(40) for b in row_of_boxes()]
    both = replace(QUIET, jitter=0.03, bias=0.04)
    found = [kind(2, both).detect(boxes[k : k + 20], "front", 0, HW) for k in range(0, 800, 20)]
    truth = np.array([b.box_px for b in boxes])
    error = np.concatenate([d.xyxy for d in found]) - truth
    height = (error[:, 3] - error[:, 1]) / 40
    centre = (error[:, 0] + error[:, 2]) / 2 / 40
    assert height.std() == pytest.approx(0.05, rel=0.12)
    assert centre.std() == pytest.approx(0.05, rel=0.12)


def test_bias_stays_over_a_track_and_jitter_does_not() -> None:
    boxes = row_of_boxes()
    truth = np.array([b.box_px for b in boxes])

    def heights(kind: type, settings_: NoiseSettings) -> np.ndarray:
        noise = kind(6, settings_)
        found = [noise.detect(boxes, "front", i * STEP, HW).xyxy - truth for i in range(200)]
        return np.array([(d[:, 3] - d[:, 1]) / 40 for d in found])

    biased = heights(CorrelatedNoise, replace(QUIET, bias=0.03))
    assert biased.std(axis=0).max() < 1e-6
    assert biased[0].std() > 0.015
    both = heights(CorrelatedNoise, replace(QUIET, bias=0.03, jitter=0.03))
    assert both.std(axis=0).mean() == pytest.approx(0.03, rel=0.1)
    assert both.mean(axis=0).std() > 0.015
    thrown = heights(IndependentNoise, replace(QUIET, bias=0.03, jitter=0.03))
    assert thrown.mean(axis=0).std() < 0.01


def test_an_edge_on_the_border_stays_there() -> None:
    box = TruthBox(1, "car", (0.0, 200.0, 300.0, 600.0))
    for kind in KINDS:
        noise = kind(1, replace(QUIET, jitter=0.1, bias=0.1))
        found = np.array([noise.detect([box], "front", i * STEP, HW).xyxy[0] for i in range(50)])
        assert (found[:, 0] == 0).all()
        assert (found[:, 3] == 600).all()
        assert found[:, 1].std() > 1


def test_confusion_lasts_over_a_track_and_stays_in_the_group() -> None:
    labels = ["car", "truck", "bicycle", "person"]
    boxes = [replace(b, label=labels[i % 4], object_id=i * 7) for i, b in enumerate(row_of_boxes())]
    settings_ = replace(QUIET, confusion_rate=0.5)
    noise = CorrelatedNoise(8, settings_)
    seen = np.array([noise.detect(boxes, "front", i * STEP, HW).class_id for i in range(50)])
    assert (seen == seen[0]).all()
    ontology = Ontology()
    confused = 0
    for box, number in zip(boxes, seen[0].tolist(), strict=True):
        said, truth = ontology.find(LABELS[number]), ontology.find(box.label)
        assert said is not None
        assert truth is not None
        assert said.group == truth.group
        confused += said.name != truth.name
    assert 2 <= confused <= 13  # of 15 that have another class in their group
    noise = IndependentNoise(8, settings_)
    thrown = np.array([noise.detect(boxes, "front", i * STEP, HW).class_id for i in range(50)])
    assert (thrown != thrown[0]).any(axis=0).sum() == 15


@pytest.mark.parametrize("kind", KINDS)
def test_doubles_are_a_car_and_a_truck_in_one_place(kind: type) -> None:
    boxes = row_of_boxes(10) + [replace(b, object_id=b.object_id + 50, label="person", box_px=(b.box_px[0], 100, b.box_px[2], 180)) for b in row_of_boxes(10)]  # fmt: skip
    noise = kind(5, replace(QUIET, double_rate=0.1))
    counts = []
    for i in range(400):
        found = noise.detect(boxes, "front", i * STEP, HW)
        assert (found.class_id == 0).sum() == 10  # no double persons
        trucks = found.xyxy[found.class_id == 7]
        counts.append(len(trucks))
        if len(trucks):
            assert (box_iou(trucks, found.xyxy[found.class_id == 2]).max(axis=1) > 0.8).all()
    assert np.mean(counts) / 10 == pytest.approx(0.1, abs=0.04)


def false_boxes(
    noise: DetectorNoise, camera: Camera | str, frames: int, speed_mps: float = 0.0, start_m: float = 0.0
) -> list[Detections]:
    """What is found where nothing is wrong but false boxes: all beyond the truth boxes."""
    boxes = row_of_boxes()
    out = []
    for i in range(frames):
        pose = SE3(np.eye(3), np.array([start_m + speed_mps * i * 0.1, 0, 0]))
        found = noise.detect(boxes, camera, i * STEP, HW, odom_SE3_base=pose)
        keep = found.score < 1
        out.append(Detections(found.xyxy[keep], found.score[keep], found.class_id[keep]))
    return out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("camera", [FRONT, "front"])
def test_number_of_false_boxes(kind: type, camera: Camera | str) -> None:
    found = false_boxes(kind(5, replace(QUIET, false_rate=0.05)), camera, 600, speed_mps=10)
    assert sum(map(len, found)) / (600 * 20) == pytest.approx(0.05, abs=0.012)


def test_false_boxes_live_for_some_frames_and_not_longer() -> None:
    noise = CorrelatedNoise(5, replace(QUIET, false_rate=0.02, false_on_vehicle=0, false_life_frames=(3, 8)))
    lives: list[int] = []
    alive: list[tuple[np.ndarray, int]] = []
    for found in false_boxes(noise, FRONT, 600):  # standing: a place of the world keeps its box
        fresh = [(box, 1) for box in found.xyxy]
        for old, age in alive:
            overlap = [box_iou(old[None], box[None])[0, 0] for box, _ in fresh]
            if overlap and max(overlap) > 0.75:
                k = int(np.argmax(overlap))
                fresh[k] = (fresh[k][0], age + 1)
            else:
                lives.append(age)
        alive = fresh
    assert len(lives) > 10
    assert np.mean([3 <= life <= 8 for life in lives]) > 0.9  # two places may stand in one spot
    assert np.mean(lives) == pytest.approx(5.5, abs=1.2)


def test_places_of_the_world_come_nearer_and_the_own_vehicle_stays() -> None:
    def growth(on_vehicle: float) -> list[float]:
        noise = CorrelatedNoise(
            5, replace(QUIET, false_rate=0.01, false_on_vehicle=on_vehicle, false_life_frames=(15, 20))
        )
        found = false_boxes(noise, FRONT, 400, speed_mps=5)
        return [
            (b.xyxy[0, 3] - b.xyxy[0, 1]) / (a.xyxy[0, 3] - a.xyxy[0, 1])
            for a, b in zip(found[:-3], found[3:], strict=True)
            if len(a) == len(b) == 1 and box_iou(a.xyxy, b.xyxy)[0, 0] > 0.5
        ]

    assert np.median(growth(1.0)) == pytest.approx(1.0, abs=0.02)
    assert np.median(growth(0.0)) > 1.03
    vehicle = [
        d.xyxy
        for d in false_boxes(
            CorrelatedNoise(5, replace(QUIET, false_rate=0.05, false_on_vehicle=1)), "front", 300
        )
    ]
    boxes = np.concatenate(vehicle)
    assert (boxes.std(axis=0) < 20).all()  # always the same place
    assert boxes[:, 3].min() > 0.9 * HW[0]  # at the bottom


def test_places_are_found_wherever_the_vehicle_is() -> None:
    settings_ = replace(QUIET, false_rate=0.05, false_on_vehicle=0)
    found = false_boxes(CorrelatedNoise(5, settings_), FRONT, 300, speed_mps=5, start_m=5000)
    assert sum(map(len, found)) / (300 * 20) == pytest.approx(0.05, abs=0.02)


def test_a_place_of_the_world_fools_every_camera_that_sees_it() -> None:
    turned = Camera("other", FRONT.intrinsics, FRONT.base_SE3_camera, "test")
    noise = CorrelatedNoise(5, replace(QUIET, false_rate=0.05, false_on_vehicle=0))
    boxes, both = row_of_boxes(), []
    for i in range(200):
        one, two = (
            noise.detect(boxes, camera, i * STEP, HW, odom_SE3_base=SE3.identity())
            for camera in (FRONT, turned)
        )
        one_false, two_false = one.xyxy[one.score < 1], two.xyxy[two.score < 1]
        if len(one_false) and len(two_false):
            both.append((box_iou(one_false, two_false) > 0.75).any())
    assert np.mean(both) > 0.9


def test_memory_does_not_grow_with_the_drive() -> None:
    noise = CorrelatedNoise(1)
    for i in range(400):
        boxes = [replace(b, object_id=i * 20 + b.object_id) for b in row_of_boxes()]
        noise.detect(boxes, LEFT, i * 10 * STEP, HW)
    assert len(noise._views) <= 20 * 130
    assert len(noise._things) <= 20 * 130


def test_who_comes_back_has_the_same_bias() -> None:
    boxes, settings_ = row_of_boxes(), replace(QUIET, bias=0.05)
    noise = CorrelatedNoise(1, settings_)
    first = noise.detect(boxes, "front", 0, HW)
    noise.detect([], "front", 100 * 10**9, HW)
    assert not noise._views
    assert same(first, noise.detect(boxes, "front", 200 * 10**9, HW))


def test_images_become_timesteps_in_order() -> None:
    boxes = tuple(row_of_boxes(3))
    images = [
        TruthImage(step, step * STEP, step * STEP, camera, HW, boxes, SE3.identity())
        for step in range(3)
        for camera in (FRONT, "left")
    ]
    rows = list(noise_detections(iter(images), CorrelatedNoise(0, QUIET)))
    assert [(step, camera, len(d)) for step, camera, d in rows] == [
        (step, camera, 3) for step in range(3) for camera in ("front", "left")
    ]


def test_wrong_settings_and_labels_are_refused() -> None:
    for wrong in (
        {"miss_rate": 1.5},
        {"bias": -0.1},
        {"false_life_frames": (0, 5)},
        {"false_life_frames": (6, 5)},
        {"miss_memory_s": 0.0},
    ):
        with pytest.raises(ValueError, match=r"allowed|positive"):
            NoiseSettings(**wrong)
    with pytest.raises(ValueError, match="hovercraft"):
        CorrelatedNoise(1).detect([TruthBox(1, "hovercraft", (0, 0, 9, 9))], "front", 0, HW)
