"""AP by pycocotools against AP by loops."""

from __future__ import annotations

import numpy as np
import pytest
from evaluate.made import CAR, CLASSES, PERSON, T0, TRUCK, run_picture, run_step, truth_picture

from perception_batch.evaluate.detection import score_detection
from perception_batch.evaluate.pairing import PairedPicture, PairedStep, pair_boxes
from perception_batch.evaluate.report import DetectionFigures, Skipped
from perception_batch.evaluate.settings import EvaluateSettings

SETTINGS = EvaluateSettings()


def iou(a: list[float], b: list[float]) -> float:
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)


def ap_by_loops(pictures: list[PairedPicture], number: int, threshold: float) -> float:
    """Greedy by score, each to the best free box; boxes that do not count are neutral; 101-point mean."""
    rows: list[tuple[float, str]] = []
    count = 0
    for p in pictures:
        truths = [
            (p.truth.box_px[i].tolist(), bool(p.counts[i]))
            for i in range(len(p.truth.ids))
            if p.truth.classes[i] in (number, -1)
        ]
        count += sum(counts for _, counts in truths)
        taken: set[int] = set()
        found = sorted(
            (i for i in range(len(p.run.score)) if p.run.classes[i] == number), key=lambda i: -p.run.score[i]
        )
        for d in found:
            choices = [
                (counts, iou(p.run.box_px[d].tolist(), box), -k)
                for k, (box, counts) in enumerate(truths)
                if k not in taken and iou(p.run.box_px[d].tolist(), box) >= threshold
            ]
            if not choices:
                rows.append((p.run.score[d], "false"))
                continue
            counts, _, k = max(choices)
            taken.add(-k)
            rows.append((p.run.score[d], "right" if counts else "ignored"))
    rows = sorted((r for r in rows if r[1] != "ignored"), key=lambda r: -r[0])
    right = false = 0
    curve = []
    for _, kind in rows:
        right += kind == "right"
        false += kind == "false"
        curve.append((right / count, right / (right + false)))
    total = 0.0
    for level in np.linspace(0, 1, 101):
        total += max((precision for recall, precision in curve if recall >= level), default=0.0)
    return total / 101


def scene(seed: int) -> list[PairedPicture]:
    rng = np.random.default_rng(seed)
    pictures = []
    for number in range(6):
        truths, found = [], []
        for k in range(int(rng.integers(0, 7))):
            x, y = rng.uniform(0, 800, 2)
            w, h = rng.uniform(20, 120, 2)
            of_class = int(rng.choice([CAR, TRUCK, PERSON, -1], p=[0.5, 0.2, 0.2, 0.1]))
            truths.append((k, of_class, [x, y, x + w, y + h]))
            for _ in range(int(rng.integers(0, 3))):
                shift = rng.normal(0, 0.12, 4) * [w, h, w, h]
                box = (np.array([x, y, x + w, y + h]) + shift).tolist()
                label = of_class if of_class >= 0 and rng.random() < 0.8 else CAR
                found.append((box, float(rng.random()), label, -1))
        truth = truth_picture(number, "a", truths, visible=rng.uniform(0.1, 1, len(truths)).tolist())
        pictures.append(pair_boxes(run_picture("a", T0, found), truth, CLASSES, SETTINGS))
    return pictures


def score(pictures: list[PairedPicture]) -> DetectionFigures | Skipped:
    return score_detection([PairedStep(run_step(0, []), 0, tuple(pictures))], CLASSES)


@pytest.mark.parametrize("seed", range(20))
def test_ap_equals_the_slow_one(seed: int) -> None:
    pictures = scene(seed)
    figures = score(pictures)
    if isinstance(figures, Skipped):
        assert not any(p.counts.any() for p in pictures)
        return
    for row in figures.classes:
        number = CLASSES.names.index(row.label)
        slow = [ap_by_loops(pictures, number, t) for t in np.arange(0.5, 1.0, 0.05)]
        assert row.ap50 == pytest.approx(slow[0], abs=1e-9)
        assert row.ap50_95 == pytest.approx(np.mean(slow), abs=1e-9)
        assert row.truth_boxes == sum(int((p.truth.classes[p.counts] == number).sum()) for p in pictures)


def test_truth_as_detections_is_perfect_and_nothing_found_is_zero() -> None:
    boxes = [(k, CAR, [100.0 * k, 50.0, 100.0 * k + 80, 120.0]) for k in range(4)]
    truth = truth_picture(0, "a", boxes)
    found = run_picture("a", T0, [(b, 1.0, CAR, k) for k, _, b in boxes])
    perfect = score([pair_boxes(found, truth, CLASSES, SETTINGS)])
    assert isinstance(perfect, DetectionFigures)
    assert perfect.ap50_95 == pytest.approx(1.0)
    nothing = score([pair_boxes(run_picture("a", T0, []), truth, CLASSES, SETTINGS)])
    assert isinstance(nothing, DetectionFigures)
    assert (nothing.ap50, nothing.classes[0].recall50) == (0.0, 0.0)


def test_no_truth_is_said_and_no_crash(capsys: pytest.CaptureFixture[str]) -> None:
    empty = pair_boxes(run_picture("a", T0, []), truth_picture(0, "a", []), CLASSES, SETTINGS)
    assert isinstance(score([empty]), Skipped)
    assert isinstance(score_detection([], CLASSES), Skipped)
    assert capsys.readouterr().out == ""  # pycocotools prints, we do not
