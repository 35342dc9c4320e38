"""`perception-batch labels`: words to settings to the training set, and what a person is told of it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from perception_batch.errors import EXIT_NOTHING, EXIT_OK, ConfigError, printable
from perception_batch.labels.command import EXAMPLE, add_arguments, settings_of

if TYPE_CHECKING:
    from perception_batch.labelling import LabelOutcome

__all__ = ["EXAMPLE", "add_arguments", "as_text", "run_command"]


def run_command(arguments: argparse.Namespace) -> int:
    """Make a training set, or check one; the exit status.

    Raises:
        PerceptionBatchError: as `make_labels` does.
    """
    if arguments.check is not None:
        from perception_batch.labels.check import check_dataset

        if arguments.run_dirs or arguments.out is not None:
            raise ConfigError("--check takes the folder of a training set and nothing else")
        report = check_dataset(arguments.check)
        sys.stdout.write(report.as_text())
        return EXIT_OK if report.ok else EXIT_NOTHING
    if not arguments.run_dirs or arguments.out is None:
        raise ConfigError("labels needs RUN_DIR... and --out DIR, or --check DIR")
    from perception_batch.console import RunProgress
    from perception_batch.labelling import make_labels
    from perception_batch.labels.label_run import read_class_map

    outcome = make_labels(
        arguments.run_dirs,
        arguments.out,
        settings_of(arguments),
        class_map=None if arguments.class_map is None else read_class_map(arguments.class_map),
        log_root=arguments.log_root,
        overwrite=arguments.overwrite,
        command=("perception-batch", *sys.argv[1:]),
        progress=RunProgress(),
    )
    sys.stdout.write(as_text(outcome))
    return EXIT_OK


def as_text(outcome: LabelOutcome) -> str:
    """For people."""
    card: dict[str, Any] = dict(outcome.card)
    images = card["images"]
    splits = ", ".join(f"{split} {n}" for split, n in images["by_split"].items())
    left_out = ", ".join(f"{printable(reason)} {n}" for reason, n in images["left_out"].items()) or "none"
    lines = [
        f"{printable(outcome.folder)}: {images['kept']} images ({splits}), {images['negatives']} of them negatives",
        f"  left out of {images['frames_of_runs']} camera frames: {left_out}",
    ]
    for label, row in card["labels"].items():
        extra = f", {row['recovered']} of them recovered" if row["recovered"] else ""
        lines.append(
            f"  {printable(label)}: {row['accepted']} labels{extra}, {row['ignored']} regions to ignore"
        )
    lines += [f"  note: {printable(note)}" for note in card["notes"]]
    return "\n".join(lines) + "\n"
