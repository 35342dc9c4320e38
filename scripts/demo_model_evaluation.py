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
CHAIN_SEEDS = (95001, 95002, 95003, 95004, 95005, 95006)
"""Drives like the demo's own, of which nothing was ever trained."""
OWN = "the demo's own"


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
        sys.exit(f"nothing to score: {figures.skipped}")
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


def _fuse_again(run: Path, out: Path, least: float) -> Path:
    """A run fused again with another score that counts as detected."""
    import shutil

    from perception_batch.cli import main as perception_batch

    shutil.rmtree(out, ignore_errors=True)
    status = perception_batch(["fuse", str(run), "--out", str(out), "--set", f"detect.score={least}"])
    if status:
        sys.exit(status)
    return next(out.rglob("run.json")).parent


def _figures_of(run: Path, truth: Path) -> dict[str, float]:
    """Figures of one run, as the demo's scoreboard shows them."""
    from perception_batch.demo import LABELS
    from perception_batch.evaluate.scoring import evaluate
    from perception_batch.evaluate.settings import EvaluateSettings

    report = evaluate(run, truth, EvaluateSettings(min_height_px=MIN_HEIGHT_PX, min_visible=MIN_VISIBLE))
    parts = report.to_dict()
    found = [row["ap50"] for row in parts["detection"]["classes"] if row["label"] in LABELS]
    return {
        "merges": parts["merges"]["f1"],
        "position": parts["positions"]["range_error_median"],
        "idf1": parts["tracks"]["idf1"],
        "ap50": sum(found) / len(found),
    }


def whole_chain(
    weights: Path, out: Path, seeds: Sequence[int | None] = (*CHAIN_SEEDS, None), least: float | None = None
) -> dict[str, dict[str, float]]:
    """Figures of the demo's whole chain on drives like its own, by seed.

    Args:
        weights: the detector.
        out: runs go here.
        seeds: of the drives; None: the demo's own.
        least: `detect.score`; None: the demo's.
    """
    from dataclasses import replace

    from perception_batch.api import run
    from perception_batch.demo import LABELS, MIN_SCORE
    from perception_batch.demo_command import demo_settings
    from perception_batch.demo_drive import built_in_drive, drive_settings

    made_with = weights.read_bytes() + repr((LABELS, MIN_SCORE)).encode()
    runs = out / hashlib.sha256(made_with).hexdigest()[:8]
    figures: dict[str, dict[str, float]] = {}
    for seed in seeds:
        name = OWN if seed is None else str(seed)
        drive = built_in_drive(
            out, drive_settings() if seed is None else replace(drive_settings(), seed=seed)
        )
        made = runs / ("own" if seed is None else name)
        if not (made / "run.json").is_file():
            settings = demo_settings(weights, video=False)
            run(drive.log, runs, config=settings, drive=made.name, overwrite=True)
        scored = made if least is None else _fuse_again(made, out / "again", least)
        figures[name] = _figures_of(scored, drive.truth)
    return figures


def _mean_ap50(figures: Mapping[str, Any], names: Sequence[str]) -> float:
    return float(sum(figures["classes"][name]["ap50"] for name in names) / len(names))


def _narrowed(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """The classes that the demo looks for, and what they reach."""
    from perception_batch.demo import LABELS

    own, other = (_mean_ap50(figures[kind], LABELS) for kind in ("student", "teacher"))
    others = [name for name in figures["student"]["classes"] if name not in LABELS]
    return (
        f"\n\nThe demo looks for {_and(LABELS)} only: their AP50 is **{own:.3f}** (teacher {other:.3f}, of which the student has {own / other:.1%})."
        f"\nThe others ({_and(others)}) are rare in the drives, the teacher is unsure of them, and few labels of them came out."
    )


def _and(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1]


def _beside(student: Mapping[str, Any], twin: Mapping[str, Any]) -> str:
    """What the labels cost: the student beside one that learnt from the truth of the same pictures."""
    from perception_batch.demo import LABELS

    by_class = ", ".join(f"{name} {row['ap50']:.3f}" for name, row in twin["classes"].items())
    return (
        f"\n\nA *twin* with the same plan and pictures, but trained on their truth, reaches AP50 {twin['ap50']:.3f} ({by_class}):"
        f"\nthe student has {student['ap50'] / max(twin['ap50'], 1e-9):.1%} of it over all seven classes, and "
        f"{_mean_ap50(student, LABELS) / _mean_ap50(twin, LABELS):.1%} over the {len(LABELS)} that the demo looks for."
    )


def _chain_table(chain: Mapping[str, Mapping[str, float]]) -> str:
    """The whole chain on further drives."""
    rows = (
        ("merges across cameras, F1", "merges", "{:.3f}"),
        ("median position error, share of the range", "position", "{:.1%}"),
        ("IDF1", "idf1", "{:.3f}"),
        ("AP50 of those of the demo's classes that occur", "ap50", "{:.3f}"),
    )
    lines = ["| seed | " + " | ".join(chain) + " |", "|---" * (len(chain) + 1) + "|"]
    lines += [
        f"| {title} | " + " | ".join(form.format(one[key]) for one in chain.values()) + " |"
        for title, key, form in rows
    ]
    return "\n".join(lines)


def write_card(path: Path, weights: Path, facts: Mapping[str, Any]) -> None:
    """The model card, Markdown."""
    student, teacher = facts["figures"]["student"], facts["figures"]["teacher"]
    rows = "\n".join(
        f"| {name} | {own['boxes']} | {own['objects']} | {own['ap50']:.3f} | {own['ap50_95']:.3f} | "
        f"{own['recall50']:.3f} | {teacher['classes'][name]['ap50']:.3f} |"
        for name, own in student["classes"].items()
    )
    content = weights.read_bytes()
    chosen_on = ", ".join(map(str, CHAIN_SEEDS[:3]))
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
so the student has {student["ap50"] / max(teacher["ap50"], 1e-9):.1%} of it.{_narrowed(facts["figures"])}{beside}

| class | boxes | objects | AP50 | AP50-95 | recall | teacher's AP50 |
|---|---|---|---|---|---|---|
{rows}

Whole chain as in `perception-batch demo` (20 s, 5 Hz, objects at least {MIN_HEIGHT_PX:g} px high and {MIN_VISIBLE:.0%} visible) on further drives. From the
first three ({chosen_on}) the demo's score threshold was chosen:

{_chain_table(facts["chain"])}

## Limits

Daylight only; the classes above only; the simulator's shapes and colours only. Below 20 px of height it finds little.

## Licence

Network, loss and file format are Ultralytics' (AGPL-3.0), with whose code it was trained: this file is offered under AGPL-3.0.
"""
    )
