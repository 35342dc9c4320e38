"""The words of `perception-batch verify`. Only argparse is imported until the command runs."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from perception_batch.command_options import add_settings, number, positive_count

if TYPE_CHECKING:
    from perception_batch.verification import Verification

EXAMPLE = "example: perception-batch verify drive.bag --model yolo11n.pt --batch-size 16"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument("log", nargs="+", metavar="LOG", help="file, bag folder, or split files of one drive")
    parser.add_argument("--model", metavar="WEIGHTS", help="detect.model")
    add_settings(parser)
    parser.add_argument("--device", metavar="auto|cpu|cuda:N", help="detect.device")
    parser.add_argument(
        "--batch-size",
        type=positive_count,
        metavar="N",
        help="tried beside 1 (detect.batch_size; auto: what a run takes)",
    )
    parser.add_argument("--cameras", metavar="A,B", help="only these cameras")
    parser.add_argument(
        "--frames", type=positive_count, default=48, metavar="N", help="images, evenly over the drive (48)"
    )
    parser.add_argument(
        "--limit",
        type=number,
        default=0.1,
        metavar="PERCENT",
        help="boxes that may differ at another batch size or in another backend (0.1)",
    )
    parser.add_argument(
        "--limit-fp16",
        type=number,
        default=2.0,
        metavar="PERCENT",
        help="boxes that fp16 and bf16 may lose or gain (2)",
    )
    parser.add_argument(
        "--limit-int8",
        type=number,
        default=10.0,
        metavar="PERCENT",
        help="boxes that int8 may lose or gain (10)",
    )
    parser.add_argument(
        "--limit-score",
        type=number,
        default=1e-3,
        metavar="S",
        help="the same box: scores differ by at most (0.001)",
    )
    parser.add_argument(
        "--limit-px",
        type=number,
        default=0.5,
        metavar="PX",
        help="the same box: edges differ by at most (0.5)",
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def run_command(arguments: argparse.Namespace) -> int:
    """Print how far the model's forms agree; 1 where one differs by more than its limit.

    Raises:
        LogError: nothing readable, or no box to compare.
        ConfigError, ModelError: settings, or the model cannot be opened.
    """
    from perception_batch.config import load_config
    from perception_batch.errors import EXIT_NOTHING, EXIT_OK
    from perception_batch.read import log_path
    from perception_batch.verification import Limits, verify

    overrides = list(arguments.set)
    for key, value in (("model", arguments.model), ("device", arguments.device)):
        overrides += [] if value is None else [f"detect.{key}={json.dumps(value)}"]
    overrides += [] if arguments.batch_size is None else [f"detect.batch_size={arguments.batch_size}"]
    names = arguments.cameras
    found = verify(
        tuple(map(log_path, arguments.log)),
        load_config(arguments.config, overrides),
        None if names is None else tuple(name.strip() for name in names.split(",") if name.strip()),
        arguments.frames,
        Limits(
            arguments.limit,
            arguments.limit_fp16,
            arguments.limit_int8,
            arguments.limit_score,
            arguments.limit_px,
        ),
    )
    text = json.dumps(found.to_dict(), indent=1, allow_nan=False) if arguments.json else as_text(found)
    sys.stdout.write(text.rstrip("\n") + "\n")
    return EXIT_NOTHING if found.failed else EXIT_OK


def as_text(found: Verification) -> str:
    """For people."""
    from perception_batch.errors import printable
    from perception_batch.text_columns import columns

    lines = [
        f"{found.images} frames; boxes with score >= {found.score:g}; a run takes {found.chosen}"
        + (f"; {found.undecodable} frames are broken and left out" if found.undecodable else ""),
        "",
    ]
    head = (
        "model",
        "compared with",
        "boxes",
        "matched",
        "same",
        "lost",
        "gained",
        "score",
        "px",
        "differs",
        "limit",
        "",
    )
    rows = [
        (
            f"{row.backend} {row.precision}, batch {row.batch_size}",
            row.against or "the reference",
            row.boxes,
            row.matched,
            f"{row.same_percent:.2f} %",
            row.lost,
            row.gained,
            f"{row.score_difference:.1e}",
            f"{row.edge_difference_px:.3f}",
            f"{row.differs_percent:.2f} %",
            f"{row.limit_percent:g} %",
            "ok" if row.within else "FAILS",
        )
        for row in found.rows
        if not row.error and row.kind != "reference"
    ]
    lines += columns(head, rows) if rows else ["there is one form of this model here, at one batch size"]
    lines += [
        f"not tried: {row.backend} {row.precision}: {printable(row.error)}" for row in found.rows if row.error
    ]
    failing = [row for row in found.rows if not row.within and not row.error]
    lines += ["", f"{len(failing)} of {len(rows)} comparisons fail" if failing else "all within their limits"]
    return "\n".join(lines) + "\n"
