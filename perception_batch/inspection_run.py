"""What a finished run tells of the rig: parts of the images that the own vehicle takes up.

That needs detections of a whole drive, so it is no part of a run, which passes once and must not depend on what it
has yet to see: a run is looked at, the masks found are written into a settings file, and `fuse` or the next run uses them.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from perception_batch.errors import EXIT_OK, LogError, WriteError, printable
from perception_batch.fusion import FoundMask, MaskFinder
from perception_batch.trajectory import MAX_SPEED_MPS, STEP_FLOOR_M
from perception_batch.write import read_ego, read_manifest, read_stored_timesteps

MIN_DRIVEN_M = 200.0
"""The vehicle must have driven so far with a thing in one place of the image."""


def inspect_run(directory: Path, *, as_json: bool, suggest_config_to: Path | None) -> int:
    """The command `inspect` for a run's folder.

    Raises:
        LogError: the run did not finish, or its tables are damaged.
        WriteError: the settings file cannot be written.
    """
    facts = run_facts(directory)
    if suggest_config_to is not None:
        text = suggested_masks(facts)
        try:
            suggest_config_to.write_text(text, encoding="utf-8")
        except OSError as error:
            raise WriteError(f"{printable(suggest_config_to)}: {error.strerror or error}") from None
    lines = [json.dumps(facts, indent=2)] if as_json else list(_page(facts))
    sys.stdout.write("\n".join(lines) + "\n")
    return EXIT_OK


def run_facts(directory: Path) -> dict[str, Any]:
    """What `inspect --json` prints of a run: by camera the static parts of its images.

    Raises:
        LogError: the run did not finish, or its tables are damaged.
    """
    manifest = read_manifest(directory)
    if manifest.status not in ("complete", "partial"):
        raise LogError(directory, f"the run is {manifest.status}; start it again first")
    finder, driven = MaskFinder(MIN_DRIVEN_M), _Way(directory)
    cameras: set[str] = set()
    last_m = math.nan
    for step in read_stored_timesteps(directory):
        for camera, found in step.detections.items():
            cameras.add(camera)
            if step.status[camera] == "ok":
                way_m = driven.at(step.frame_stamps_ns[camera])
                finder.add(camera, found, step.image_hw[camera], way_m)
        last_m = driven.at(step.stamp_ns)
    known = math.isfinite(last_m)
    masks = finder.found()
    return {
        "run": str(directory),
        "drive": manifest.drive,
        "driven_m": round(last_m, 1) if known else None,
        "needed_m": MIN_DRIVEN_M,
        "cameras": {name: [_plain(mask) for mask in masks.get(name, ())] for name in sorted(cameras)},
    }


def suggested_masks(facts: dict[str, Any]) -> str:
    """A settings file with the masks that were found; they are added to nothing, so it says what it replaces."""
    import yaml

    found = {name: masks for name, masks in facts["cameras"].items() if masks}
    head = (
        f"# Masks found by `perception-batch inspect` in a run of {printable(facts['drive'])}: look at them in the video\n"
        "# before you use them. They replace masks that the cameras have.\n"
    )
    data = {"cameras": {name: {"mask": [m["polygon_px"] for m in masks]} for name, masks in found.items()}}
    return head + (yaml.safe_dump(data, sort_keys=False, allow_unicode=True) if found else "{}\n")


class _Way:
    """Path length since the drive began, by time; jumps of the localisation are no way."""

    def __init__(self, directory: Path) -> None:
        self._steps = self._sums(directory)
        self._before: tuple[int, float] | None = None
        self._after = next(self._steps, None)

    @staticmethod
    def _sums(directory: Path) -> Iterator[tuple[int, float]]:
        last, way_m = None, 0.0
        for pose in read_ego(directory):
            if last is not None and last.frame_id == pose.frame_id:
                step = pose.odom_SE3_base.translation_m - last.odom_SE3_base.translation_m
                length_m = float(np.linalg.norm(step))
                if length_m <= STEP_FLOOR_M + MAX_SPEED_MPS * (pose.stamp_ns - last.stamp_ns) * 1e-9:
                    way_m += length_m
            last = pose
            yield pose.stamp_ns, way_m

    def at(self, stamp_ns: int) -> float:
        """Metres at the last pose before `stamp_ns`, which may not go back by much; NaN where there is none."""
        while self._after is not None and self._after[0] <= stamp_ns:
            self._before, self._after = self._after, next(self._steps, None)
        return math.nan if self._before is None else self._before[1]


def _plain(mask: FoundMask) -> dict[str, Any]:
    return {
        "polygon_px": [list(point) for point in mask.polygon],
        "image_share": round(mask.image_share, 4),
        "seen_share": round(mask.seen_share, 3),
        "images": mask.images,
        "driven_m": round(mask.driven_m, 1),
        "unsteady": round(mask.unsteady, 5),
    }


def _page(facts: dict[str, Any]) -> Iterator[str]:
    driven, needed = facts["driven_m"], facts["needed_m"]
    yield f"run {printable(facts['run'])}, drive {printable(facts['drive'])}"
    if driven is None:
        yield "the log tells no motion of the vehicle, so nothing can be said to be static while it drove"
        return
    short = f": too short, {needed:.0f} m are needed with a thing in one place" if driven < needed else ""
    yield f"the vehicle drove {driven:.0f} m{short}"
    for name, masks in facts["cameras"].items():
        if not masks:
            yield f"  {printable(name)}: nothing static that the detector takes for something"
        for mask in masks:
            (x0, y0), (x1, y1) = mask["polygon_px"][0], mask["polygon_px"][2]
            yield (
                f"  {printable(name)}: x {x0:.0f} to {x1:.0f}, y {y0:.0f} to {y1:.0f} px "
                f"({100 * mask['image_share']:.1f} % of the image) is static: boxes there in {mask['images']} images "
                f"({100 * mask['seen_share']:.0f} % of those since the first) over {mask['driven_m']:.0f} m, edges steady "
                f"to {100 * mask['unsteady']:.2f} % of the image"
            )
    if any(facts["cameras"].values()):
        yield "look at these parts in the video; --suggest-config FILE writes them as masks for `fuse` and `run`"
