"""The whole evaluation: read both sides, pair them, ask each part for its figures."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from perception_batch.config import parse_config
from perception_batch.errors import LogError, printable
from perception_batch.evaluate.detection import score_detection
from perception_batch.evaluate.merges import score_merges
from perception_batch.evaluate.pairing import pair, tolerance_ns
from perception_batch.evaluate.positions import score_positions
from perception_batch.evaluate.report import Report
from perception_batch.evaluate.run_tables import read_manifest, read_run
from perception_batch.evaluate.settings import EvaluateSettings
from perception_batch.evaluate.sync import score_sync
from perception_batch.evaluate.tracks import score_tracks
from perception_batch.evaluate.truth import Classes, read_truth

_DEFAULT = EvaluateSettings()


def evaluate(run_dir: Path, truth: Path, settings: EvaluateSettings = _DEFAULT) -> Report:
    """Compare a finished run with truth.

    Args:
        run_dir: ``OUT/<drive>``.
        truth: the truth folder of a simulated drive (or the folder that holds it), or a JSON file.
        settings: what counts.

    Returns:
        Figures; a part that the run or the truth has nothing for says why.

    Raises:
        LogError: no finished run, no truth, damaged files, or no time in common.
        ConfigError: the settings stored with the run are not of this version.
    """
    run_dir, truth = Path(run_dir), Path(truth)
    manifest = read_manifest(run_dir)
    stored = manifest.get("config")
    if not isinstance(stored, dict):
        raise LogError(run_dir / "run.json", "holds no settings")
    config = parse_config(stored, printable(run_dir / "run.json"))
    classes = Classes(config.build_ontology())
    known = read_truth(truth, classes)
    run = read_run(run_dir, manifest, classes, config.detect.classes)
    steps = pair(run, known, classes, settings)
    return Report(
        run=printable(run_dir),
        drive=printable(run.drive),
        truth=printable(truth),
        timesteps=len(run.steps),
        truth_frames=len(known.frames),
        matched=len(steps),
        tolerance_ms=tolerance_ns(known) / 1e6,
        settings=dataclasses.asdict(settings),
        ignored_labels={printable(label): count for label, count in sorted(known.unknown_labels.items())},
        detection=score_detection(steps, classes),
        merges=score_merges(steps, settings),
        positions=score_positions(steps, known, settings, has_positions=run.has_positions),
        tracks=score_tracks(
            steps,
            known,
            classes,
            settings,
            run.asked_classes,
            has_tracks=run.has_tracks,
            has_positions=run.has_positions,
        ),
        sync=score_sync(run, known),
    )
