#!/usr/bin/env python3
"""What INT8 costs: AP50 of weights in FP32 and in INT8 (OpenVINO), through the whole program, against truth.

    python scripts/measure_int8_loss.py WEIGHTS --drive LOG TRUTH [--drive LOG TRUTH]... --calibrate LOG
    python scripts/measure_int8_loss.py WEIGHTS --draw 4 [--duration 20]

TRUTH is the truth folder of a drawn drive, or JSON, as for `perception-batch evaluate`. With --draw the drives are drawn
(`perception-batch simulate`, seeds 101, 102, ...) and one more, of seed 100, to calibrate on: INT8 is never calibrated on
what it is measured on.

    AP50         of all drives together, mean over the classes that the truth has
    difference   INT8 less FP32, and its 95 % interval by the bootstrap over blocks of --block timesteps that follow each
                 other (neighbouring frames show the same things), the same blocks for both

Weights that lie on an 8-bit grid already lose less than others would.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import io
import itertools
import json
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from perception_batch.cli import main as perception_batch
from perception_batch.command_options import add_settings, positive_count
from perception_batch.config import RunConfig, load_config
from perception_batch.detect import find_weights
from perception_batch.detect.export import ExportRequest, export_model
from perception_batch.detect.facts import Precision
from perception_batch.errors import PerceptionBatchError
from perception_batch.evaluate.detection import coco_evaluation, score_detection
from perception_batch.evaluate.pairing import PairedStep, pair
from perception_batch.evaluate.report import Skipped
from perception_batch.evaluate.run_tables import read_manifest, read_run
from perception_batch.evaluate.settings import EvaluateSettings
from perception_batch.evaluate.truth import Classes, read_truth
from perception_batch.export_command import calibrated_form
from perception_batch.job import Job
from perception_batch.pipeline import run_drive
from perception_batch.read import log_path

PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
Drive = tuple[Path, Path]


def draw(folder: Path, seed: int, duration_s: float) -> Drive:
    """A drawn drive: its log and its truth."""
    out = folder / f"seed{seed}"
    status = perception_batch(["simulate", str(out), "--duration", f"{duration_s:g}", "--seed", str(seed)])
    if status:
        raise SystemExit(status)
    logs = [path for path in sorted(out.rglob("*.mcap")) if "truth" not in path.parts]
    return logs[0], out


def measure(
    weights: Path, drives: Sequence[Drive], calibrate: Path, arguments: argparse.Namespace, work: Path
) -> dict[str, Any]:
    """Export both forms, run every drive with each, and compare.

    Raises:
        PerceptionBatchError: logs, truth, settings or the model.
    """
    config = load_config(arguments.config, [*arguments.set, "render.video=false"])
    settings = EvaluateSettings()
    steps: dict[str, list[PairedStep]] = {}
    exported = {}
    for precision in PRECISIONS:
        request = ExportRequest(
            weights, "openvino", precision, config.detect.image_size, config.detect.max_detections
        )
        frames = partial(calibrated_form, logs=(calibrate,), config=config, most=arguments.frames)
        model = export_model(request, work / precision, frames if precision == "int8" else None, again=True)
        exported[precision] = model.facts
        own = config.model_copy(
            update={
                "detect": config.detect.model_copy(
                    update={"model": str(model.file.parent), "backend": "openvino", "device": "cpu"}
                )
            }
        )
        steps[precision] = [
            step
            for number, drive in enumerate(drives)
            for step in paired(drive, own, work / "out" / precision / str(number), settings)
        ]
    return compare(steps, Classes(config.build_ontology()), arguments) | {
        "weights": weights.name,
        "sha256": exported["fp32"].sha256,
        "calibration": dict(exported["int8"].calibration),
        "drives": [str(log.name) for log, _ in drives],
        "min_height_px": settings.min_height_px,
    }


def paired(drive: Drive, config: RunConfig, out: Path, settings: EvaluateSettings) -> tuple[PairedStep, ...]:
    """A drive's detections beside its truth."""
    log, truth = drive
    directory = run_drive(Job("drive", (log_path(str(log)),), out, config)).directory
    classes = Classes(config.build_ontology())
    run = read_run(directory, read_manifest(directory), classes, config.detect.classes)
    return tuple(pair(run, read_truth(truth, classes), classes, settings))


class Resampled:
    """AP50 of timesteps drawn with repetition; what matches what is found out once."""

    def __init__(self, steps: Sequence[PairedStep]) -> None:
        pictures = [picture for step in steps for picture in step.pictures]
        numbers = np.cumsum([0, *(len(step.pictures) for step in steps)]).tolist()
        self._of_step = [range(a, b) for a, b in itertools.pairwise(numbers)]
        self._classes = sorted({int(c) for p in pictures for c in p.truth.classes[p.counts]})
        self._evaluation = coco_evaluation(pictures, self._classes)
        # one entry for each class and picture, in that order
        self._matches = list(self._evaluation.evalImgs)
        self._count = len(pictures)

    def ap50(self, drawn: Sequence[int]) -> float:
        """Mean over the classes that the drawn timesteps have truth of."""
        pictures = [picture for step in drawn for picture in self._of_step[step]]
        evaluation = self._evaluation
        evaluation.evalImgs = [
            self._matches[k * self._count + i] for k in range(len(self._classes)) for i in pictures
        ]
        evaluation.params.imgIds = list(range(len(pictures)))
        evaluation._paramsEval = copy.deepcopy(evaluation.params)
        with contextlib.redirect_stdout(io.StringIO()):  # it reports on itself with print
            evaluation.accumulate()
        by_class = evaluation.eval["precision"][0, :, :, 0, 0].mean(0)
        return float(by_class[by_class >= 0].mean())


def compare(
    steps: dict[str, list[PairedStep]], classes: Classes, arguments: argparse.Namespace
) -> dict[str, Any]:
    """AP50 of both, and the interval of their difference."""
    out: dict[str, Any] = {}
    for precision in PRECISIONS:
        found = score_detection(steps[precision], classes)
        if isinstance(found, Skipped):
            raise SystemExit(f"nothing to measure: {found.skipped}")
        out[precision] = dataclasses.asdict(found)
    rng = np.random.Generator(np.random.PCG64(arguments.seed))
    full, small = (Resampled(steps[precision]) for precision in PRECISIONS)
    count = len(steps["fp32"])
    blocks = [range(i, min(i + arguments.block, count)) for i in range(0, count, arguments.block)]
    differences = []
    for _ in range(arguments.resamples):
        drawn = [
            step for block in rng.integers(0, len(blocks), len(blocks)).tolist() for step in blocks[block]
        ]
        differences.append(small.ap50(drawn) - full.ap50(drawn))
    interval = [float(q) for q in np.quantile(differences, (0.025, 0.975))] if len(blocks) > 1 else None
    return out | {
        "difference": out["int8"]["ap50"] - out["fp32"]["ap50"],
        "interval_95": interval,
        "timesteps": count,
        "block": arguments.block,
        "resamples": arguments.resamples,
    }


def as_text(found: dict[str, Any]) -> str:
    """For people."""
    head = (
        f"{found['weights']}, {', '.join(found['drives'])}: {found['fp32']['truth_boxes']} truth boxes of at least "
        f"{found['min_height_px']:g} px in {found['fp32']['pictures']} pictures, {found['timesteps']} timesteps"
    )
    lines = [head]
    for precision in PRECISIONS:
        row = found[precision]
        classes = ", ".join(
            f"{c['label']} {100 * c['ap50']:.1f} ({c['truth_boxes']})" for c in row["classes"]
        )
        lines.append(
            f"{precision}  AP50 {100 * row['ap50']:5.2f}  AP50-95 {100 * row['ap50_95']:5.2f}   {classes}"
        )
    interval = found["interval_95"]
    words = "" if interval is None else f"  (95 %: {100 * interval[0]:+.2f} to {100 * interval[1]:+.2f})"
    lines.append(f"difference  {100 * found['difference']:+.2f} points of AP50{words}")
    return "\n".join(lines) + "\n"


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    head, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=head, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", help="a .pt, or a name as for detect.model")
    parser.add_argument("--drive", nargs=2, action="append", type=Path, default=[], metavar=("LOG", "TRUTH"))
    parser.add_argument("--calibrate", type=Path, metavar="LOG", help="another drive, to calibrate INT8 on")
    parser.add_argument(
        "--draw", type=positive_count, metavar="N", help="draw N drives and one to calibrate on"
    )
    parser.add_argument("--duration", type=float, default=20.0, metavar="S", help="of drawn drives (20)")
    parser.add_argument(
        "--frames", type=positive_count, default=300, metavar="N", help="to calibrate on, at most (300)"
    )
    parser.add_argument(
        "--block", type=positive_count, default=10, metavar="N", help="timesteps drawn together (10)"
    )
    parser.add_argument(
        "--resamples", type=positive_count, default=300, metavar="N", help="of the bootstrap (300)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (0)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write all figures as JSON")
    add_settings(parser)
    arguments = parser.parse_args(words)
    if bool(arguments.draw) == bool(arguments.drive) or bool(arguments.drive) != bool(arguments.calibrate):
        parser.error("give either --draw N, or --drive LOG TRUTH and --calibrate LOG")
    return arguments


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print."""
    arguments = parse(words)
    try:
        with tempfile.TemporaryDirectory(prefix="int8-loss-") as folder:
            work, calibrate = Path(folder), arguments.calibrate
            drives: list[Drive] = [(log, truth) for log, truth in arguments.drive]
            if arguments.draw:
                calibrate, _ = draw(work, 100, arguments.duration)
                drives = [draw(work, 101 + i, arguments.duration) for i in range(arguments.draw)]
            found = measure(find_weights(arguments.weights), drives, calibrate, arguments, work)
    except PerceptionBatchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(as_text(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
