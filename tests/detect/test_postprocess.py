"""From a network's output to boxes, in NumPy and in PyTorch, against NMS by loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.detect import postprocess, torch_postprocess
from perception_batch.detect.postprocess import MAX_CANDIDATES, to_detections
from perception_batch.errors import ModelError
from perception_batch.geometry import DetectorView, box_iou

HW = (64, 96)


def select_in_torch(output: np.ndarray, *arguments: Any, **options: Any) -> list[np.ndarray]:
    return torch_postprocess.select(torch.from_numpy(output), *arguments, **options)


both = pytest.mark.parametrize("select", [postprocess.select, select_in_torch], ids=["numpy", "torch"])


def dense(seed: int, images: int, anchors: int, classes: int) -> np.ndarray:
    """(N, 4 + classes, anchors) with many overlaps and distinct scores."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(5, 60, (images, 2, anchors))
    size = rng.uniform(10, 30, (images, 2, anchors))
    score = rng.permutation(images * classes * anchors).reshape(images, classes, anchors) + 1.0
    return np.concatenate([centre, size, score / score.size], 1).astype(np.float32)


def nms_by_loops(output: np.ndarray, keep_score: float, iou: float, top: int) -> np.ndarray:
    """(K, 6) of one image."""
    rows = []
    for anchor in range(output.shape[1]):
        cx, cy, w, h = output[:4, anchor].astype(np.float64)
        label = int(output[4:, anchor].argmax())
        score = output[4 + label, anchor]
        if score >= np.float32(keep_score):
            rows.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score, label])
    rows.sort(key=lambda row: -row[4])
    kept: list[list[float]] = []
    for row in rows:
        clash = [
            k for k in kept if k[5] == row[5] and box_iou(np.array([k[:4]]), np.array([row[:4]]))[0, 0] > iou
        ]
        if not clash:
            kept.append(row)
    return np.array(kept[:top], np.float64).reshape(-1, 6)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    images=st.integers(1, 4),
    padding=st.integers(0, 2),
    anchors=st.integers(1, 60),
    classes=st.integers(1, 5),
    iou=st.sampled_from([0.2, 0.5, 0.7]),
    top=st.sampled_from([1, 5, 300]),
)
def test_dense_output_equals_nms_by_loops(
    seed: int, images: int, padding: int, anchors: int, classes: int, iou: float, top: int
) -> None:
    output = dense(seed, images + padding, anchors, classes)
    keep = [0.1 + 0.2 * i for i in range(images)]
    found = postprocess.select(output, "dense", keep, input_hw=HW, iou=iou, max_detections=top)
    twin = select_in_torch(output, "dense", keep, input_hw=HW, iou=iou, max_detections=top)
    assert len(found) == len(twin) == images
    assert all(a.tobytes() == b.tobytes() for a, b in zip(found, twin, strict=True)), "equal to the byte"
    for i, rows in enumerate(found):
        np.testing.assert_allclose(rows, nms_by_loops(output[i], keep[i], iou, top), atol=1e-4)
        assert rows.dtype == np.float32


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    anchors=st.integers(1, 40),
    classes=st.integers(1, 4),
    top=st.sampled_from([1, 5, 300]),
)
def test_the_best_pairs_of_anchor_and_class_are_those_of_ultralytics(
    seed: int, anchors: int, classes: int, top: int
) -> None:
    """An end-to-end head's choice, by sorting all pairs of the best anchors."""
    output = dense(seed, 1, anchors, classes)
    (found,) = postprocess.select(output, "one2one", [0.3], input_hw=HW, iou=0.7, max_detections=top)
    top = min(top, anchors)
    best = sorted(range(anchors), key=lambda a: -output[0, 4:, a].max())[:top]
    pairs = sorted(((output[0, 4 + c, a], c, a) for a in best for c in range(classes)), key=lambda p: -p[0])[
        :top
    ]
    wanted = [[*output[0, :4, a], score, c] for score, c, a in pairs if score >= np.float32(0.3)]
    np.testing.assert_array_equal(found, np.array(wanted, np.float32).reshape(-1, 6))


def test_equal_scores_and_boxes_without_area_are_the_same_in_both() -> None:
    output = dense(5, 2, 40, 2)
    output[:, 4:] = np.round(output[:, 4:], 1)
    output[:, 2:4, ::5] = 0
    output[0, :4, 1] = output[0, :4, 0]
    arguments = {"input_hw": HW, "iou": 0.5, "max_detections": 300}
    found = postprocess.select(output, "dense", [0.1, 0.1], **arguments)
    twin = select_in_torch(output, "dense", [0.1, 0.1], **arguments)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(found, twin, strict=True))


@both
def test_final_outputs_are_only_cut_by_score(select: Any) -> None:
    rows = np.float32([[[10, 10, 20, 20, 0.3, 1], [10, 10, 20, 20, 0.9, 1], [0, 0, 5, 5, 0.1, 0]]])
    (found,) = select(rows, "end2end", [0.2], input_hw=HW, iou=0.7, max_detections=300)
    np.testing.assert_allclose(found[:, 4], [0.9, 0.3])
    np.testing.assert_allclose(found[0, :4], [10, 10, 20, 20])
    queries = np.float32([[[0.5, 0.5, 0.5, 0.25, 0.8, 2]]])
    (found,) = select(queries, "queries", [0.2], input_hw=HW, iou=0.7, max_detections=300)
    np.testing.assert_allclose(found, [[24, 24, 72, 40, 0.8, 2]], atol=1e-5)


@both
def test_no_candidates_at_all(select: Any) -> None:
    found = select(
        np.zeros((3, 8, 10), np.float32), "dense", [0.1] * 3, input_hw=HW, iou=0.7, max_detections=300
    )
    assert [len(rows) for rows in found] == [0, 0, 0]
    view = DetectorView.fit((128, 192), long_side_px=96)
    assert len(to_detections(found[0], view)) == 0


@both
def test_more_candidates_than_the_cap_are_cut_by_score(select: Any) -> None:
    anchors = MAX_CANDIDATES + 50
    output = np.zeros((1, 5, anchors), np.float32)
    output[0, :2] = 8
    output[0, 2:4] = 1
    output[0, :2, -51:-49] = [[30, 60], [30, 60]]  # the last but fifty, and the first beyond the cap
    output[0, 4] = np.linspace(0.9, 0.1, anchors)
    (found,) = select(output, "dense", [0.0], input_hw=HW, iou=0.7, max_detections=anchors)
    assert found[:, 0].tolist() == [7.5, 29.5]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@both
def test_scores_that_are_no_numbers_are_an_error(select: Any, bad: float) -> None:
    output = np.random.default_rng(1).random((2, 7, 30), np.float32)
    output[1, 5, 3] = bad
    with pytest.raises(ModelError, match="not finite"):
        select(output, "dense", [0.5, 0.5], input_hw=HW, iou=0.7, max_detections=300)


@pytest.mark.parametrize(
    ("shape", "form"),
    [((1, 4, 30), "dense"), ((1, 1000), "dense"), ((1, 300, 7), "end2end"), ((0, 8, 3), "dense")],
)
@both
def test_other_shapes_are_an_error(select: Any, shape: tuple[int, ...], form: str) -> None:
    with pytest.raises(ModelError, match="shape"):
        select(np.zeros(shape, np.float32), form, [0.5], input_hw=HW, iou=0.7, max_detections=300)


def test_detections_are_clipped_sorted_and_have_an_area() -> None:
    view = DetectorView.fit((900, 1600), long_side_px=640)  # scale 0.4, 12 px bars above and below
    rows = np.array(
        [
            [100, 112, 200, 212, 0.5, 3],
            [-50, -50, 40, 52, 0.5, 1],  # out over the corner
            [100, 112, 150, 212, 0.5, 3],  # the same score and class: by box
            [10, 0, 60, 11, 0.9, 0],  # in the bar alone: nothing left
            [700, 20, 800, 90, 0.8, 0],  # beside the image
            [300, 60, 300, 90, 0.8, 0],  # no width
            [np.nan, 60, 300, 90, 0.7, 0],
            [300, 60, 310, 90, 0.6, 0],
        ],
        np.float32,
    )
    found = to_detections(rows, view)
    np.testing.assert_allclose(
        found.xyxy,
        [[750, 120, 775, 195], [0, 0, 100, 100], [250, 250, 375, 500], [250, 250, 500, 500]],
        atol=1e-3,
    )
    assert found.class_id.tolist() == [0, 1, 3, 3]
    assert found.score.dtype == found.xyxy.dtype == np.float32
    shuffled = to_detections(rows[::-1], view)
    assert (shuffled.xyxy == found.xyxy).all()
