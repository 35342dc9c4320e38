"""The words of `perception-batch compare`. Only argparse is imported until the command runs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from perception_batch.command_options import count, share

if TYPE_CHECKING:
    from perception_batch.run_comparison import Comparison, FrameChange

EXAMPLE = "example: perception-batch compare out/old/drive out/new/drive"
_MOST_BOXES = 6
"""Changes of one frame that the text names; `--json` has all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument("run_a", type=Path, metavar="RUN_A", help="the run that is the measure: OUT/<drive>")
    parser.add_argument("run_b", type=Path, metavar="RUN_B", help="another run of the same drive")
    parser.add_argument(
        "--score",
        type=share,
        metavar="S",
        help="compare all boxes with at least this score; default: those of the asked classes and scores, no doubles",
    )
    parser.add_argument("--frames", type=count, default=10, metavar="N", help="list so many frames (10)")
    parser.add_argument("--json", action="store_true", help="for programs")


def run_command(arguments: argparse.Namespace) -> int:
    """Print what differs; the exit status, which is 0 whether or not something does.

    Raises:
        LogError: no finished run, damaged tables, or runs of different drives.
    """
    from perception_batch.run_boxes import read_run_boxes
    from perception_batch.run_comparison import compare_runs

    a = read_run_boxes(arguments.run_a, arguments.score)
    b = read_run_boxes(arguments.run_b, arguments.score)
    found = compare_runs(a, b, arguments.frames)
    text = json.dumps(found.to_dict(), indent=1, allow_nan=False) if arguments.json else as_text(found)
    sys.stdout.write(text.rstrip("\n") + "\n")
    return 0


def as_text(found: Comparison) -> str:
    """For people."""
    from perception_batch.errors import printable
    from perception_batch.text_columns import columns

    lines = [
        f"{printable(found.drive)}: {found.frames} camera frames in both runs, {found.differing_frames} differ",
        f"  A {printable(found.run_a)}",
        f"  B {printable(found.run_b)}",
    ]
    for side, left_out in (("A", found.frames_only_a), ("B", found.frames_only_b)):
        if left_out:
            lines.append(f"  {left_out} frames that only {side} used are left out")
    if found.made_by:
        lines += ["", "made with"]
        lines += [
            f"  {printable(name)}: {_short(old)} -> {_short(new)}"
            for name, (old, new) in found.made_by.items()
        ]
    lines += ["", "boxes by camera and class (lost: in A only; gained: in B only)"]
    head = (
        "camera",
        "class",
        "A",
        "B",
        "same",
        "lost",
        "gained",
        "relabelled",
        "tracks A",
        "B",
        "lost",
        "gained",
    )
    rows = [
        (
            printable(camera),
            printable(label),
            c.a,
            c.b,
            c.same,
            _with_kept(c.lost, c.lost_kept),
            _with_kept(c.gained, c.gained_kept),
            c.relabelled,
            c.tracks_a,
            c.tracks_b,
            c.tracks_lost,
            c.tracks_gained,
        )
        for camera, by_label in found.counts.items()
        for label, c in by_label.items()
    ]
    lines += [f"  {line}" for line in columns(head, rows)]
    if any(c.lost_kept or c.gained_kept for by_label in found.counts.values() for c in by_label.values()):
        lines.append("  in brackets: of these, the other run has the box too, below its score or set aside")
    lines.append(
        f"  partners differ by at most {found.score_difference:.4f} in score and {found.edge_difference_px:.2f} px"
    )
    if found.relabelled:
        words = ", ".join(f"{printable(name)} {count}" for name, count in found.relabelled.items())
        lines.append(f"  relabelled: {words}")
    for word, labels in (("only A found", found.classes_lost), ("only B found", found.classes_gained)):
        if labels:
            lines.append(f"  classes that {word}: {', '.join(map(printable, labels))}")
    if found.tracks:
        lines += ["", "tracks by class"]
        track_head = ("class", "A", "B", "same", "lost", "gained", "broken", "joined")
        track_rows = [
            (printable(label), t.a, t.b, t.same, t.lost, t.gained, t.broken, t.joined)
            for label, t in found.tracks.items()
        ]
        lines += [f"  {line}" for line in columns(track_head, track_rows)]
    if found.worst:
        lines += ["", "frames that differ most"]
        for frame in found.worst:
            lines += _frame_lines(frame)
    return "\n".join(lines) + "\n"


def _frame_lines(frame: FrameChange) -> list[str]:
    from perception_batch.errors import printable

    def words(kind: str) -> int:
        return sum(change.kind == kind for change in frame.changes)

    numbers = (("lost", words("lost")), ("gained", words("gained")), ("relabelled", words("relabelled")))
    counts = ", ".join(f"{count} {kind}" for kind, count in numbers if count)
    step = f"timestep {frame.timestep_a}"
    step += f" (B: {frame.timestep_b})" if frame.timestep_b != frame.timestep_a else ""
    lines = [f"  {frame.time_s:9.3f} s  {printable(frame.camera)}, {step}: {counts}"]
    for change in frame.changes[:_MOST_BOXES]:
        label = printable(change.label) + (f" -> {printable(change.label_b)}" if change.label_b else "")
        box = ", ".join(f"{v:.0f}" for v in change.box_px)
        lines.append(f"      {change.kind} {label} {change.score:.2f} at [{box}]")
    if len(frame.changes) > _MOST_BOXES:
        lines.append(f"      ... and {len(frame.changes) - _MOST_BOXES} more")
    return lines


def _with_kept(count: int, kept: int) -> str:
    return f"{count} ({kept})" if kept else str(count)


def _short(text: str) -> str:
    from perception_batch.errors import printable

    clean = printable(text)
    is_hash = len(clean) == 64 and set(clean) <= set("0123456789abcdef")
    return clean[:12] if is_hash else clean if len(clean) <= 60 else clean[:57] + "..."
