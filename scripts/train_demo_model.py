"""Makes the built-in detector: drives, teacher, labels, student, figures, model card.

    python scripts/train_demo_model.py --out DIR [--stage STAGE ...] [--teacher-views N] [--student-views N]

Stages, in this order, each of which goes on where it was stopped: `drives` draws them; `teacher` is trained on the
simulator's truth; `label` runs the teacher over further drives and makes a training set of the runs, as a user would;
`student` is trained on that set alone; `evaluate` scores both, on drives that neither saw, and writes the card.

Two more stages only where they are named: `twin` is trained like the student, on the same pictures, but on their truth. What the
student lacks beside it is what the labels cost; `evaluate` scores it too. `threshold` prints identities on three drives by the score that
counts as detected, from which the demo's is chosen.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

STAGES = ("drives", "teacher", "label", "student", "evaluate")
TWIN, THRESHOLD = "twin", "threshold"
SIZE_PX = (640, 400)
SEEDS = {"teacher": 10_000, "student": 20_000, "check": 90_000}
"""First seed of each kind of drive; the built-in drive's seed is below them all."""
LABEL_WORDS = (
    *("--format", "yolo", "--every-s", "0.5", "--split", "1,0,0", "--negatives", "0.1"),
    *("--accept", "0.75,bicycle=0.7,truck=0.6,bus=0.5,motorcycle=0.4"),
)
"""How the training set is made. The teacher is less sure of the rare classes, and right more often than it thinks."""
DENSITIES = (1.0, 1.5, 2.0)


def draw_drive(job: tuple[Path, str, int]) -> str:
    """Draw one drive of six cameras where it is not there yet.

    Those whose truth is used are ten cycles, two seconds apart: no picture is like another. Those for the label
    program are at 4 Hz, because it weighs tracks.
    """
    import shutil

    import cv2

    from perception_batch.simulate.drive import PARTIAL_SUFFIX, simulate
    from perception_batch.simulate.settings import SimulateSettings

    root, kind, number = job
    cv2.setNumThreads(1)
    out = root / kind / f"{SEEDS[kind] + number:05d}"
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(out.with_name(out.name + PARTIAL_SUFFIX), ignore_errors=True)
        settings = SimulateSettings(
            duration_s=12 if kind == "student" else 20,
            rate_hz=4.0 if kind == "student" else 0.5,
            size_px=SIZE_PX,
            seed=SEEDS[kind] + number,
            container="foxglove",
            density=1.0 if kind == "check" else DENSITIES[number % len(DENSITIES)],
            hills=number % 5 == 4,
        )
        simulate(out, settings)
    return f"{kind} {out.name}"


def drives_of(out: Path, kind: str, count: int) -> list[Path]:
    """Those that are there, of the first `count`."""
    paths = [out / "drives" / kind / f"{SEEDS[kind] + i:05d}" for i in range(count)]
    return [path for path in paths if path.is_dir()]


class Measure:
    """AP50 by class on drives that were never trained on, over boxes kept down to 0.05."""

    def __init__(self, drives: Sequence[Path]) -> None:
        from demo_model_evaluation import MIN_HEIGHT_PX, MIN_VISIBLE
        from demo_model_pictures import from_drives

        self._pictures = from_drives(drives, MIN_HEIGHT_PX, MIN_VISIBLE)

    def __call__(self, network: Any) -> dict[str, Any]:
        import numpy as np
        from demo_model_pictures import CLASSES, IGNORED
        from demo_model_training import detect_all

        from perception_batch.evaluate.detection import score_detection
        from perception_batch.evaluate.pairing import PairedPicture, PairedStep
        from perception_batch.evaluate.report import Skipped
        from perception_batch.evaluate.run_tables import RunPicture, RunStep
        from perception_batch.evaluate.truth import NO_CLASS, Classes, TruthPicture
        from perception_batch.ontology import Ontology

        classes = Classes(Ontology())
        number = np.array([*(classes.number(name) for name in CLASSES), NO_CLASS])
        none = np.zeros(0, np.int64)
        pairs = []
        for i, found in enumerate(detect_all(network, self._pictures)):
            rows = self._pictures.rows(i)
            kind = self._pictures.class_index[rows]
            count, marks = len(kind), np.full(len(found.score), -1)
            truth = TruthPicture(
                0,
                str(i),
                i,
                True,
                np.arange(count),
                number[kind],
                self._pictures.box_px[rows].astype(np.float64),
                np.ones(count),
            )
            box, score = found.xyxy.astype(np.float64), found.score.astype(np.float64)
            run = RunPicture(str(i), i, box, score, number[found.class_id], marks)
            pairs.append(PairedPicture(run, truth, kind != IGNORED, marks, marks > 0))
        step = RunStep(0, 0, (), none, none, none, np.zeros((0, 3)), np.zeros((0, 2, 2)), none > 0)
        figures = score_detection([PairedStep(step, 0, tuple(pairs))], classes)
        if isinstance(figures, Skipped):
            return {"skipped": figures.skipped}
        by_class = {row.label: [round(row.ap50, 3), row.truth_boxes] for row in figures.classes}
        return {"ap50": round(figures.ap50, 4), "by_class": by_class}


def draw_stage(arguments: argparse.Namespace) -> None:
    """Draw all drives."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    counts = {
        "check": arguments.check_drives,
        "teacher": arguments.teacher_drives,
        "student": arguments.student_drives,
    }
    jobs = [(arguments.out / "drives", kind, i) for kind, count in counts.items() for i in range(count)]
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        for done, name in enumerate(pool.map(draw_drive, jobs), start=1):
            print(f"drawn {done} of {len(jobs)}: {name}", flush=True)


def label_stage(arguments: argparse.Namespace) -> None:
    """Run the teacher over further drives, and make a training set of the runs."""
    from demo_model_evaluation import run_drive

    from perception_batch.cli import main as perception_batch

    out, runs = arguments.out, []
    for drive in drives_of(arguments.out, "student", arguments.student_drives):
        runs.append(run_drive(drive, out / "teacher" / "teacher.pt", out / "runs" / "label"))
        print(f"labelled {len(runs)}: {drive.name}", flush=True)
    if not (out / "labels" / "data.yaml").is_file():
        words = ["labels", *map(str, runs), "--out", str(out / "labels"), *LABEL_WORDS]
        status = perception_batch(words)
        if status:
            sys.exit(status)


def evaluate_stage(arguments: argparse.Namespace) -> None:
    """Score teacher and student on drives that neither saw; write the figures and the card."""
    import json
    import shutil

    from demo_model_evaluation import score, whole_chain, write_card
    from demo_model_pictures import CLASSES
    from demo_model_training import SCALE, build_network

    out = arguments.out
    drives = drives_of(out, "check", arguments.check_drives)
    figures = {}
    for kind in ("teacher", "student", TWIN):
        weights = out / kind / f"{kind}.pt"
        if weights.is_file():
            figures[kind] = score(drives, weights, out / "runs" / f"check-{kind}")
            print(kind, json.dumps(figures[kind], indent=1), flush=True)
    (out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    if "student" not in figures:
        return
    weights = out / "demo.pt"
    shutil.copyfile(out / "student" / "student.pt", weights)
    chain = whole_chain(weights, out / "chain")
    (out / "chain.json").write_text(json.dumps(chain, indent=1) + "\n")
    seeds = {
        kind: f"{count} drives, seeds {SEEDS[kind]} to {SEEDS[kind] + count - 1}"
        for kind, count in (
            ("teacher", arguments.teacher_drives),
            ("student", arguments.student_drives),
            ("check", arguments.check_drives),
        )
    }
    facts = {
        "scale": list(SCALE),
        "parameters": sum(p.numel() for p in build_network().parameters()),
        "labels": CLASSES,
        "size": "x".join(map(str, SIZE_PX)),
        "teacher": f"{seeds['teacher']}; {_views(out, 'teacher')}{_first_round(arguments)}",
        "student": _views(out, "student"),
        "student_drives": seeds["student"],
        "check_drives": seeds["check"],
        "command": "python scripts/train_demo_model.py --out DIR",
        "figures": figures,
        "chain": chain,
    }
    write_card(out / "MODEL_CARD.md", weights, facts)


def threshold_stage(arguments: argparse.Namespace) -> None:
    """Print what each score that counts as detected comes to."""
    from demo_model_evaluation import CHAIN_SEEDS, whole_chain

    out = arguments.out
    for least in (0.25, 0.35, 0.45, 0.5, 0.55, 0.6, 0.65):
        figures = whole_chain(out / "student" / "student.pt", out / "chain", CHAIN_SEEDS[:3], least)
        idf1 = [one["idf1"] for one in figures.values()]
        by_seed = " ".join(f"{value:.3f}" for value in idf1)
        print(f"score {least:.2f}: IDF1 {sum(idf1) / len(idf1):.3f} ({by_seed})", flush=True)


def _views(out: Path, kind: str) -> str:
    """How many views a training took, by its curve."""
    import json

    last = (out / kind / "curve.jsonl").read_text().splitlines()[-1]
    return f"{json.loads(last)['views']:,} views"


def _first_round(arguments: argparse.Namespace) -> str:
    """What the teacher had seen before this round."""
    start: Path | None = arguments.teacher_start
    return "" if start is None else f", after a first round of {_views(start.parents[1], start.parent.name)}"


def train_stage(arguments: argparse.Namespace, kind: str) -> None:
    """Train the teacher, the student or its twin to the end of its plan, and write its weights."""
    from demo_model_pictures import from_drives, from_yolo_set, of_set
    from demo_model_training import Plan, Trainer, train, write_weights

    out, folder = arguments.out, arguments.out / kind
    if kind == "teacher":
        pictures = from_drives(drives_of(out, "teacher", arguments.teacher_drives))
    elif kind == TWIN:
        drives = drives_of(out, "student", arguments.student_drives)
        pictures = from_drives(drives, only=of_set(out / "labels"))
    else:
        pictures = from_yolo_set(out / "labels")
    print(f"{kind}: {len(pictures)} pictures, {pictures.counts()}", flush=True)
    views = arguments.teacher_views if kind == "teacher" else arguments.student_views
    plan = Plan(steps=views // 16, seed=arguments.seed)
    if kind == "teacher" and arguments.teacher_start:
        # Other views than in the first round, and a rate that does not undo it.
        trainer = Trainer(replace(plan, seed=plan.seed + 1, learning_rate=0.6 * plan.learning_rate), pictures)
        trainer.start_from(arguments.teacher_start)
    else:
        trainer = Trainer(plan, pictures)
    measure = Measure(drives_of(out, "check", 3))
    train(trainer, folder, measure, every_s=arguments.measure_every)
    write_weights(trainer.mean, folder / f"{kind}.pt")


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The words of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="everything goes here")
    parser.add_argument(
        "--stage", nargs="+", choices=(*STAGES, TWIN, THRESHOLD), default=list(STAGES), help="only these"
    )
    parser.add_argument("--teacher-drives", type=int, default=110, metavar="N")
    parser.add_argument("--student-drives", type=int, default=60, metavar="N")
    parser.add_argument("--check-drives", type=int, default=10, metavar="N")
    parser.add_argument("--teacher-views", type=int, default=40_000, metavar="N")
    parser.add_argument(
        "--teacher-start",
        type=Path,
        metavar="FILE",
        help="last.pt of an earlier round, whose weights it starts with",
    )
    parser.add_argument("--student-views", type=int, default=50_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="of weights and views")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="drives drawn at a time")
    parser.add_argument("--measure-every", type=float, default=600, metavar="S", help="CPU seconds")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Do the stages asked for."""
    arguments = parse(words)
    for stage in (stage for stage in (*STAGES[:-1], TWIN, THRESHOLD, STAGES[-1]) if stage in arguments.stage):
        if stage == "drives":
            draw_stage(arguments)
        elif stage == "label":
            label_stage(arguments)
        elif stage == THRESHOLD:
            threshold_stage(arguments)
        elif stage == "evaluate":
            evaluate_stage(arguments)
        else:
            train_stage(arguments, stage)
    return 0


if __name__ == "__main__":
    sys.exit(main())
