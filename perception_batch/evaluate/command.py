"""The words of `perception-batch evaluate`. Only argparse is imported until the command runs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from perception_batch.command_options import count, number, share
from perception_batch.evaluate.settings import EvaluateSettings

EXAMPLE = "example: perception-batch evaluate out/drive --truth drive.truth.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    default = EvaluateSettings()
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="what a run left: OUT/<drive>")
    parser.add_argument(
        "--truth", type=Path, required=True, metavar="PATH", help="truth folder of a simulated drive, or JSON"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--min-height-px",
        type=number,
        default=default.min_height_px,
        metavar="PX",
        help=f"truth boxes lower than this do not count ({default.min_height_px:g})",
    )
    parser.add_argument(
        "--min-visible",
        type=share,
        default=default.min_visible,
        metavar="SHARE",
        help=f"nor do those of which less is visible ({default.min_visible:g})",
    )
    parser.add_argument(
        "--max-range-m",
        type=number,
        default=default.max_range_m,
        metavar="M",
        help=f"positions and tracks count up to here ({default.max_range_m:g})",
    )
    parser.add_argument(
        "--seed", type=count, default=default.seed, metavar="N", help="of the bootstrap intervals (0)"
    )


def run_command(arguments: argparse.Namespace) -> int:
    """Print the report; the exit status.

    Raises:
        LogError: RUN_DIR is no finished run, or the truth cannot be read or has nothing in common with it.
    """
    from perception_batch.evaluate.scoring import evaluate
    from perception_batch.evaluate.table import as_text

    settings = EvaluateSettings(
        min_height_px=arguments.min_height_px,
        min_visible=arguments.min_visible,
        max_range_m=arguments.max_range_m,
        seed=arguments.seed,
    )
    report = evaluate(arguments.run_dir, arguments.truth, settings)
    text = json.dumps(report.to_dict(), indent=2, allow_nan=False) if arguments.json else as_text(report)
    sys.stdout.write(text.rstrip("\n") + "\n")
    return 0
