"""How right the labels of simulated drives are, and how many, beside those of a plain score threshold.

    python scripts/benchmark_labels.py [--seeds 1 2 3] [--duration 24] [--accept 0.9] [--cache DIR]

Truth boxes of drawn drives go through correlated detector noise, fusion and tracks into a run's tables (no pixels); their
labels are compared with the truth. A label is right where it overlaps a true box of its class by half (IoU), one to one. True boxes
count from 30 px and a fifth visible on; labels on others are neither right nor wrong. *any class* takes a car called a truck
for right, for labels that a class map made groups (vehicle, person, ..). *at 0.97*: the recall of a threshold on the quality, or on
the detector's score, where precision is 0.97.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from benchmark_truth import make_truth

from perception_batch.geometry import box_iou
from perception_batch.labelling import open_runs
from perception_batch.labelling_sources import RunSource
from perception_batch.labels.label_settings import LabelSettings, PerClass
from perception_batch.labels.run_rows import BoxRows, FloatArray, IntArray, stretches
from perception_batch.labels.scored_boxes import ACCEPTED, QUALITY, ScoredBoxes, joined
from perception_batch.labels.scoring import score_stretch
from perception_batch.ontology import Ontology
from perception_batch.simulate.detector_noise import LABELS, CorrelatedNoise
from perception_batch.simulate.settings import SimulateSettings
from perception_batch.simulate.truth_boxes import truth_images

LEAST_HEIGHT_PX, LEAST_VISIBLE, LEAST_IOU = 30.0, 0.2, 0.5


@dataclass(frozen=True, slots=True)
class TrueBoxes:
    """What one image truly shows."""

    xyxy: FloatArray
    labels: tuple[str, ...]
    groups: tuple[str, ...]
    counts: npt.NDArray[np.bool_]
    """(N,) high enough and visible enough for precision and recall."""
    visible: npt.NDArray[np.bool_]
    """(N,) visible enough, of any height: for the reliability of the quality."""


@dataclass(frozen=True, slots=True)
class Found:
    """Boxes to judge, by falling trust."""

    place: tuple[tuple[int, str], ...]
    """(N,) timestep and camera."""
    xyxy: FloatArray
    labels: tuple[str, ...]
    trust: FloatArray


def true_boxes(truth: Path) -> dict[tuple[int, str], TrueBoxes]:
    """By timestep and camera."""
    ontology, out = Ontology(), {}
    for image in truth_images(truth):
        entries = [ontology.find(box.label) for box in image.boxes]
        name = image.camera if isinstance(image.camera, str) else image.camera.name
        out[image.timestep, name] = TrueBoxes(
            np.array([box.box_px for box in image.boxes]).reshape(-1, 4),
            tuple(entry.name if entry else "" for entry in entries),
            tuple(entry.group if entry else "" for entry in entries),
            np.array(
                [
                    b.box_px[3] - b.box_px[1] >= LEAST_HEIGHT_PX and b.visible_fraction >= LEAST_VISIBLE
                    for b in image.boxes
                ],
                bool,
            ),
            np.array([b.visible_fraction >= LEAST_VISIBLE for b in image.boxes], bool),
        )
    return out


def judge(
    found: Found,
    truth: dict[tuple[int, str], TrueBoxes],
    *,
    any_class: bool = False,
    any_height: bool = False,
) -> IntArray:
    """(N,) 1 right, 0 wrong, -1 neither."""
    groups = {name: entry.group for name, entry in Ontology().classes.items()}
    out, used = np.zeros(len(found.trust), np.int64), set()
    for row in np.argsort(-found.trust, kind="stable").tolist():
        there = truth[found.place[row]]
        label = found.labels[row]
        if not len(there.xyxy):
            continue
        overlap = box_iou(found.xyxy[row : row + 1], there.xyxy)[0]
        names, own = (there.groups, groups.get(label, label)) if any_class else (there.labels, label)
        free = [
            j
            for j in np.flatnonzero(overlap >= LEAST_IOU).tolist()
            if names[j] == own and (found.place[row], j) not in used
        ]
        counts = there.visible if any_height else there.counts
        counting = [j for j in free if counts[j]]
        if free:
            best = max(counting or free, key=lambda j: overlap[j])
            used.add((found.place[row], best))
            out[row] = 1 if counting else -1
    return out


def recall_at(precision: float, verdict: IntArray, trust: FloatArray, total: int) -> float:
    """The most that a threshold on `trust` finds at this precision."""
    ordered = verdict[np.argsort(-trust, kind="stable")]
    right, wrong = np.cumsum(ordered == 1), np.cumsum(ordered == 0)
    enough = np.flatnonzero((right >= precision * (right + wrong)) & (right + wrong >= 50))
    return float(right[enough[-1]] / total) if len(enough) else 0.0


def found_of(
    boxes: BoxRows | ScoredBoxes, labels: list[str], trust: FloatArray, cameras: tuple[str, ...]
) -> Found:
    """Rows as they are judged."""
    place = tuple(
        (t, cameras[c]) for t, c in zip(boxes.timestep.tolist(), boxes.camera.tolist(), strict=True)
    )
    return Found(place, boxes.xyxy, tuple(labels), trust)


@dataclass(slots=True)
class Reliability:
    """How often boxes of each tenth of quality are right, over all drives."""

    boxes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 10), np.int64))
    """By seen or recovered, by tenth; those that are right or wrong."""
    right: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 10), np.int64))
    quality: FloatArray = field(default_factory=lambda: np.zeros((2, 10)))
    """Sums."""
    accepted: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 2), np.int64))
    """By seen or recovered, wrong and right: of labels."""

    def add(self, boxes: ScoredBoxes, verdict: IntArray) -> None:
        """Boxes of one drive."""
        use = verdict >= 0
        place = (
            boxes.recovered[use].astype(np.int64),
            np.minimum((boxes.quality[use] * 10).astype(np.int64), 9),
        )
        np.add.at(self.boxes, place, 1)
        np.add.at(self.right, place, verdict[use])
        np.add.at(self.quality, place, boxes.quality[use])
        label = use & (boxes.band == ACCEPTED)
        np.add.at(self.accepted, (boxes.recovered[label].astype(np.int64), verdict[label]), 1)

    def as_text(self) -> str:
        """A table."""
        lines = ["quality of boxes on tracks, true boxes of any height (right = share that is right)"]
        lines.append("             seen: boxes  quality  right     recovered: boxes  quality  right")
        for tenth in range(10):
            cells = [f"  {tenth / 10:.1f}-{(tenth + 1) / 10:.1f}"]
            for kind, width in ((0, 18), (1, 20)):
                n = int(self.boxes[kind, tenth])
                mean = (
                    f"{self.quality[kind, tenth] / n:8.3f}{self.right[kind, tenth] / n:8.3f}"
                    if n
                    else " " * 16
                )
                cells.append(f"{n:{width}d} {mean}")
            lines.append("".join(cells))
        for kind, name in enumerate(("seen", "recovered")):
            wrong, right = self.accepted[kind].tolist()
            lines.append(
                f"  {name} labels: {right} right, {wrong} wrong: {right / max(1, right + wrong):.4f}"
            )
        return "\n".join(lines)


def scored_boxes(
    run: Path, settings: LabelSettings, class_map: dict[str, str | None] | None
) -> tuple[RunSource, ScoredBoxes, list[BoxRows]]:
    """A run, its boxes with quality and band, and its detections as they are."""
    source = open_runs([run], class_map, settings, None)[0]
    scored, raw = [], []
    for stretch in stretches(run, source.run.cameras):
        scored.append(score_stretch(stretch, source.facts, settings))
        inside = (stretch.boxes.timestep >= stretch.start) & (stretch.boxes.timestep < stretch.stop)
        raw.append(stretch.boxes.rows(inside))
    return source, joined(scored), raw


def compare(truth_folder: Path, run: Path, settings: LabelSettings, reliability: Reliability) -> str:
    """One drive's figures as lines; its boxes are added to `reliability`."""
    truth = true_boxes(truth_folder)
    lines = []
    known: tuple[str, ...] = ()
    total = 0
    for any_class in (False, True):
        # Who does not care for the class asks for groups, by --class-map, and doubt about the class is none then.
        groups: dict[str, str | None] | None = None
        if any_class:
            groups = {name: Ontology().classes[name].group for name in known}
        source, boxes, raw = scored_boxes(run, settings, groups)
        cameras, classes = source.run.cameras, source.facts.classes
        if not any_class:
            known = classes
            total = sum(
                sum(1 for label, counts in zip(t.labels, t.counts, strict=True) if counts and label in known)
                for t in truth.values()
            )

        def judged(
            some: ScoredBoxes,
            classes: tuple[str, ...] = classes,
            cameras: tuple[str, ...] = cameras,
            any_class: bool = any_class,
            any_height: bool = False,
        ) -> IntArray:
            names = [classes[i] for i in some.class_index.tolist()]
            found = found_of(some, names, some.quality, cameras)
            return judge(found, truth, any_class=any_class, any_height=any_height)

        accepted = boxes.rows(boxes.band == ACCEPTED)
        tracked = boxes.rows((boxes.why == 0) | (boxes.why == QUALITY))
        verdict = judged(accepted)
        right, wrong = int((verdict == 1).sum()), int((verdict == 0).sum())
        precision = right / max(1, right + wrong)
        plain_verdict, plain_score = [], []
        for part in raw:
            names = [LABELS[i] for i in part.class_id.tolist()]
            keep = np.array([name in known for name in names], bool)
            own = found_of(part.rows(keep), [n for n in names if n in known], part.score[keep], cameras)
            plain_verdict.append(judge(own, truth, any_class=any_class))
            plain_score.append(own.trust)
        verdicts, scores = np.concatenate(plain_verdict), np.concatenate(plain_score)
        same, at_97 = (recall_at(p, verdicts, scores, total) for p in (precision, 0.97))
        ours = recall_at(0.97, judged(tracked), tracked.quality, total)
        lines.append(
            f"  {'any class ' if any_class else 'with class'}  {len(accepted)} labels: precision {precision:.4f} recall "
            f"{right / total:.4f}, {ours:.4f} at 0.97   score threshold: recall {same:.4f} at that precision, {at_97:.4f} at 0.97"
        )
        if not any_class:
            reliability.add(tracked, judged(tracked, any_height=True))
            lost = accepted.recovered
            counts = [int((verdict[lost] == v).sum()) for v in (1, 0, -1)]
            lines.append(
                f"  recovered   {counts[0]} right, {counts[1]} wrong, {counts[2]} where the truth does not count"
            )
    return "\n".join([f"  {total} true boxes count", *lines])


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], epilog="example: benchmark_labels.py --seeds 1"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--duration", type=float, default=24.0, help="seconds of each drive (24)")
    parser.add_argument("--rate", type=float, default=10.0, help="timesteps a second (10)")
    parser.add_argument("--accept", type=float, default=LabelSettings().accept.usual)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "perception_batch_truth")
    options = parser.parse_args()
    sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
    from noisy_run import write_noisy_run

    settings = replace(LabelSettings(), accept=PerClass(options.accept))
    reliability = Reliability()
    for seed in options.seeds:
        drive = SimulateSettings(duration_s=options.duration, rate_hz=options.rate, seed=seed)
        truth = make_truth(options.cache, drive)
        with tempfile.TemporaryDirectory() as folder:
            run = write_noisy_run(truth, Path(folder) / "drive", CorrelatedNoise(seed))
            print(f"seed {seed}\n{compare(truth, run, settings, reliability)}", flush=True)
    print(reliability.as_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
