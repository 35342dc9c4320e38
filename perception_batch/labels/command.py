"""The words of `perception-batch labels`. Only argparse is imported until the command runs."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perception_batch.command_options import count, number, positive_count, share

EXAMPLE = "example: perception-batch labels out/drive_1 out/drive_2 out/drive_3 --out set --format yolo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument(
        "run_dirs",
        nargs="*",
        type=Path,
        metavar="RUN_DIR",
        help="finished runs: OUT/<drive>, or OUT with several",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the training set")
    parser.add_argument(
        "--check", type=Path, metavar="DIR", help="check a training set instead; exit 1 on findings"
    )
    parser.add_argument(
        "--log-root", type=Path, metavar="DIR", help="where the logs lie now, if they were moved"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a training set that is there")
    add_set_options(parser)


def add_set_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides how runs become a training set."""
    parser.add_argument(
        "--format", choices=["yolo", "coco", "kitti"], default="yolo", help="layout of the files (yolo)"
    )
    parser.add_argument(
        "--class-map",
        type=Path,
        metavar="FILE",
        help="YAML: a class of the set, or null, for each label of the runs",
    )
    keep = parser.add_argument_group("which images")
    keep.add_argument(
        "--every-s", type=number, default=0.0, metavar="S", help="least time between timesteps (0: all)"
    )
    keep.add_argument(
        "--min-distance-m",
        type=number,
        default=0.0,
        metavar="M",
        help="least way driven between timesteps (0: all)",
    )
    keep.add_argument(
        "--duplicate-bits",
        type=int,
        default=10,
        metavar="N",
        help="images of a camera that differ in at most N of 256 bits of their hash are one (10); -1: keep all",
    )
    keep.add_argument(
        "--quota",
        type=_counts,
        metavar="N|CLASS=N,..",
        help="so many labels of a class, then no image for its sake",
    )
    keep.add_argument(
        "--max-images", type=positive_count, metavar="N", help="most images, before near duplicates"
    )
    keep.add_argument(
        "--first",
        choices=["rare", "doubt", "time"],
        default="rare",
        help="which images come first where a limit binds: of rare classes, doubtful ones, early ones (rare)",
    )
    keep.add_argument(
        "--negatives",
        type=share,
        default=0.1,
        metavar="SHARE",
        help="most images without any box, of the set (0.1)",
    )
    keep.add_argument(
        "--max-ignored",
        type=count,
        metavar="N",
        help="leave out images with more regions to ignore (no limit)",
    )
    boxes = parser.add_argument_group("which boxes")
    boxes.add_argument(
        "--accept",
        type=_shares,
        default={"": 0.9},
        metavar="Q|CLASS=Q,..",
        help="quality from which a box is a label (0.9); such as 0.9 or 0.9,person=0.8",
    )
    boxes.add_argument(
        "--ignore",
        type=_shares,
        default={"": 0.3},
        metavar="Q|CLASS=Q,..",
        help="quality from which it is a region to ignore (0.3); below it is dropped",
    )
    boxes.add_argument(
        "--sure-score",
        type=share,
        default=0.5,
        metavar="S",
        help="detector score from which no box is dropped (0.5)",
    )
    boxes.add_argument(
        "--max-gap-s", type=number, default=1.0, metavar="S", help="longest gap of a track that is filled (1)"
    )
    boxes.add_argument("--no-recovered", action="store_true", help="fill no gaps")
    split = parser.add_argument_group("splits")
    split.add_argument(
        "--split", type=_split, default=(0.8, 0.1, 0.1), metavar="A,B,C", help="train,val,test (0.8,0.1,0.1)"
    )
    split.add_argument(
        "--group-by",
        choices=["drive", "vehicle", "day", "place"],
        default="drive",
        help="what is never split (drive)",
    )
    split.add_argument(
        "--vehicle",
        metavar="REGEX",
        help="its first group in a log's path names the vehicle (the log's folder)",
    )
    split.add_argument(
        "--place-m", type=number, default=100.0, metavar="M", help="side of a place's square (100)"
    )
    split.add_argument(
        "--guard-s",
        type=number,
        default=30.0,
        metavar="S",
        help="left out about cuts in time, with < 3 groups (30)",
    )
    split.add_argument("--seed", type=count, default=0, metavar="N", help="of every choice (0)")
    files = parser.add_argument_group("files")
    files.add_argument(
        "--images",
        choices=["copy", "hardlink", "symlink"],
        default="copy",
        help="links need a log that is a folder of image files (copy)",
    )
    files.add_argument(
        "--encode",
        choices=["jpg", "png"],
        default="jpg",
        help="for images that the log holds neither as JPEG nor PNG (jpg)",
    )
    files.add_argument(
        "--review", type=count, default=100, metavar="N", help="images on the review list (100)"
    )
    files.add_argument("--licence", default="not stated", metavar="TEXT", help="line for the card")


def settings_of(arguments: argparse.Namespace) -> Any:
    """The options as `LabelSettings`.

    Raises:
        ConfigError: options that contradict each other.
    """
    from perception_batch.labels.label_settings import LabelSettings, PerClass

    def per_class(values: Mapping[str, float], usual: float) -> PerClass:
        return PerClass(values.get("", usual), {label: value for label, value in values.items() if label})

    quota = None if arguments.quota is None else per_class(arguments.quota, float("inf"))
    return LabelSettings(
        format=arguments.format,
        every_s=arguments.every_s,
        min_distance_m=arguments.min_distance_m,
        duplicate_bits=arguments.duplicate_bits,
        quota=quota,
        max_images=arguments.max_images,
        first=arguments.first,
        negatives=arguments.negatives,
        max_ignored=arguments.max_ignored,
        accept=per_class(arguments.accept, 0.9),
        ignore=per_class(arguments.ignore, 0.3),
        sure_score=arguments.sure_score,
        max_gap_s=arguments.max_gap_s,
        recover=not arguments.no_recovered,
        group_by=arguments.group_by,
        vehicle_regex=arguments.vehicle,
        place_m=arguments.place_m,
        split=arguments.split,
        guard_s=arguments.guard_s,
        seed=arguments.seed,
        images=arguments.images,
        encode=arguments.encode,
        review=arguments.review,
        licence=arguments.licence,
    )


def _values(text: str, convert: Any) -> dict[str, Any]:
    out = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        label, equals, value = part.rpartition("=")
        out[label.strip() if equals else ""] = convert(value)
    if not out:
        raise argparse.ArgumentTypeError("expected a number, or CLASS=number, separated by commas")
    return out


def _shares(text: str) -> dict[str, float]:
    return _values(text, share)


def _counts(text: str) -> dict[str, int]:
    return _values(text, count)


def _split(text: str) -> tuple[float, float, float]:
    parts = [share(part) for part in text.split(",")]
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(f"{text}: expected three shares, such as 0.8,0.1,0.1")
    return parts[0], parts[1], parts[2]
