"""Figures of the built-in detector on drives that it never saw, and its model card."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perception_batch.config import RunConfig, load_config
from perception_batch.evaluate.pairing import PairedStep

MIN_HEIGHT_PX, MIN_VISIBLE = 20.0, 0.5
"""What counts."""


def run_settings(weights: Path) -> RunConfig:
    """As the built-in drive is run: pictures at their own size, no video."""
    from demo_model_pictures import CLASSES

    return load_config(
        overrides=[
            f"detect.model={json.dumps(str(weights))}",
            "detect.image_size=640",
            f"detect.classes={json.dumps(list(CLASSES))}",
            "render.video=false",
        ]
    )


def run_drive(drive: Path, weights: Path, out: Path) -> Path:
    """The run of a drawn drive, made where it is not there yet."""
    from perception_batch.api import run

    return run(
        drive / "drive.mcap", out, config=run_settings(weights), drive=drive.name, overwrite=True
    ).directory


def score(drives: Sequence[Path], weights: Path, out: Path) -> dict[str, Any]:
    """Figures by class over all drives together, as `perception-batch evaluate` counts them in one."""
    from perception_batch.evaluate.detection import score_detection
    from perception_batch.evaluate.pairing import pair
    from perception_batch.evaluate.report import Skipped
    from perception_batch.evaluate.run_tables import read_manifest, read_run
    from perception_batch.evaluate.settings import EvaluateSettings
    from perception_batch.evaluate.truth import Classes, read_truth

    config = run_settings(weights)
    classes = Classes(config.build_ontology())
    settings = EvaluateSettings(min_height_px=MIN_HEIGHT_PX, min_visible=MIN_VISIBLE)
    steps: list[PairedStep] = []
    for drive in drives:
        directory = run_drive(drive, weights, out)
        found = read_run(directory, read_manifest(directory), classes, config.detect.classes)
        steps += pair(found, read_truth(drive / "truth", classes), classes, settings)
    figures = score_detection(steps, classes)
    if isinstance(figures, Skipped):
        sys.exit(f"nothing to score: {figures.reason}")
    return {
        "pictures": figures.pictures,
        "ap50": figures.ap50,
        "ap50_95": figures.ap50_95,
        "classes": {
            row.label: {
                "ap50": row.ap50,
                "ap50_95": row.ap50_95,
                "recall50": row.recall50,
                "boxes": row.truth_boxes,
                "objects": row.truth_objects,
            }
            for row in figures.classes
        },
    }


def _beside(student: Mapping[str, Any], twin: Mapping[str, Any]) -> str:
    """What the labels cost: the student beside one that learnt from the truth of the same pictures."""
    own, other = student["classes"], twin["classes"]
    by_class = ", ".join(f"{name} {row['ap50']:.3f}" for name, row in other.items())
    ratio = student["ap50"] / max(twin["ap50"], 1e-9)
    return (
        f"\n\nA *twin* with the same plan and pictures, but trained on their truth, reaches AP50 {twin['ap50']:.3f} ({by_class}):"
        f"\nthe student has {ratio:.1%} of it, by class at the median "
        f"{sorted(own[name]['ap50'] / max(other[name]['ap50'], 1e-9) for name in other)[len(other) // 2]:.1%}."
    )


def write_card(path: Path, weights: Path, facts: Mapping[str, Any]) -> None:
    """The model card, Markdown."""
    student, teacher = facts["figures"]["student"], facts["figures"]["teacher"]
    rows = "\n".join(
        f"| {name} | {own['boxes']} | {own['objects']} | {own['ap50']:.3f} | {own['ap50_95']:.3f} | "
        f"{own['recall50']:.3f} | {teacher['classes'][name]['ap50']:.3f} |"
        for name, own in student["classes"].items()
    )
    content = weights.read_bytes()
    twin = facts["figures"].get("twin")
    beside = "" if twin is None else _beside(student, twin)
    path.write_text(
        f"""# Built-in detector

A YOLO11 of our own scale (depth, width, most channels: {facts["scale"]}; {facts["parameters"]:,} weights), FP16, {len(content) / 1e6:.1f} MB,
SHA-256 `{hashlib.sha256(content).hexdigest()}`. It finds {", ".join(facts["labels"])} on the drives that
`perception-batch simulate` draws by day, at {facts["size"]} pixels. **It is of no use on real pictures.**

## How it was made

1. A *teacher* was trained from random initialisation on the simulator's truth: {facts["teacher"]}.
2. The teacher ran over further drives ({facts["student_drives"]}) through `perception-batch run`, and `perception-batch labels` made
   a training set of the runs. The truth of these drives was looked at for one thing: from which quality on a label of a rare class
   is taken (`LABEL_WORDS` in the script).
3. The *student*, which is this model, was trained from random initialisation on that set alone: {facts["student"]}.

No picture, label or weight of anyone else went into it. Command: `{facts["command"]}`.

## Figures

On {student["pictures"]} pictures of drives that neither saw ({facts["check_drives"]}), objects at least {MIN_HEIGHT_PX:g} px high and {MIN_VISIBLE:.0%} visible,
counted as `perception-batch evaluate` does: AP50 **{student["ap50"]:.3f}** (AP50-95 {student["ap50_95"]:.3f}); the teacher's is {teacher["ap50"]:.3f},
so the student has {student["ap50"] / max(teacher["ap50"], 1e-9):.1%} of it.{beside}

| class | boxes | objects | AP50 | AP50-95 | recall | teacher's AP50 |
|---|---|---|---|---|---|---|
{rows}

## Limits

Daylight only; the classes above only; the simulator's shapes and colours only. Below 20 px of height it finds little.

## Licence

Network, loss and file format are Ultralytics' (AGPL-3.0), with whose code it was trained: this file is offered under AGPL-3.0.
"""
    )
