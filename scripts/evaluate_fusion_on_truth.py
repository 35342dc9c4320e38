#!/usr/bin/env python3
"""Range error of a finished run against truth, one line per object.

    python scripts/evaluate_fusion_on_truth.py OUT/nuscenes_sample nuscenes_sample.truth.json

RUN_DIR holds `timesteps.jsonl`. TRUTH is JSON with `frames[]`: `stamp_ns` and `objects[]` with `label`,
`center_base_link_m` and `boxes2d` (`[x1, y1, x2, y2]` px by camera name). A detection and a truth box are one
where their IoU reaches 0.5 and the ontology puts their labels into one group. Range is the horizontal
distance from the base frame's origin.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from perception_batch.geometry import box_iou
from perception_batch.ontology import Ontology


def nearest(frames: list[dict[str, Any]], stamp_ns: int, tolerance_ns: int) -> dict[str, Any] | None:
    """The truth frame nearest to a stamp, within the tolerance."""
    best = min(frames, key=lambda frame: abs(frame["stamp_ns"] - stamp_ns), default=None)
    return best if best is not None and abs(best["stamp_ns"] - stamp_ns) <= tolerance_ns else None


def matches(
    step: dict[str, Any], truth: dict[str, Any], *, min_height_px: float, max_range_m: float, min_iou: float
) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Truth objects of one timestep that were detected, each with its fused object (None: not fused)."""
    ontology = Ontology()
    out = []
    for item in truth["objects"]:
        entry = ontology.find(item["label"])
        if entry is None or math.hypot(*item["center_base_link_m"][:2]) > max_range_m:
            continue
        best: tuple[float, dict[str, Any]] | None = None
        for camera, box in item["boxes2d"].items():
            found = step["cameras"].get(camera, {}).get("detections", [])
            if not found or box[3] - box[1] < min_height_px:
                continue
            iou = box_iou(np.array([d["box_px"] for d in found], float), np.array([box], float))[:, 0]
            for overlap, detection in zip(iou.tolist(), found, strict=True):
                known = ontology.find(detection["label"])
                same = known is not None and known.group == entry.group
                if same and overlap >= min_iou and (best is None or overlap > best[0]):
                    best = (overlap, detection)
        if best is not None:
            number = best[1].get("object", -1)
            out.append((item, next((o for o in step["objects"] if o["object"] == number), None)))
    return out


def main(argv: list[str] | None = None) -> int:
    """Print the table; exit status 1 where nothing could be compared."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--min-height-px", type=float, default=40.0)
    parser.add_argument("--max-range-m", type=float, default=40.0)
    parser.add_argument("--min-iou", type=float, default=0.5)
    parser.add_argument("--labels", default="car,truck,bus,person", help="ontology names; empty: all")
    args = parser.parse_args(argv)
    frames = json.loads(args.truth.read_text())["frames"]
    wanted = set(filter(None, args.labels.split(",")))
    ontology = Ontology()
    errors: list[float] = []
    without = 0
    print(
        f"{'stamp_ns':>19}  {'truth':<12} {'label':<10} {'range_m':>7} {'found_m':>7} {'error_%':>7}  cameras"
    )
    with (args.run_dir / "timesteps.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            step = json.loads(line)
            truth = nearest(frames, step["stamp_ns"], 100_000_000)
            if truth is None:
                continue
            for item, found in matches(
                step,
                truth,
                min_height_px=args.min_height_px,
                max_range_m=args.max_range_m,
                min_iou=args.min_iou,
            ):
                entry = ontology.find(item["label"])
                if entry is None or (wanted and entry.name not in wanted):
                    continue
                if found is None or "position_m" not in found:
                    without += 1
                    continue
                true_m = math.hypot(*item["center_base_link_m"][:2])
                got_m = math.hypot(*found["position_m"][:2])
                errors.append(got_m / true_m - 1)
                cameras = ", ".join(camera for camera, _ in found["observations"])
                print(
                    f"{step['stamp_ns']:>19}  {item['label']:<12} {found['label']:<10} {true_m:7.1f} {got_m:7.1f} "
                    f"{100 * errors[-1]:+7.1f}  {cameras}"
                )
    if not errors:
        print("no detected truth object has a position", file=sys.stderr)
        return 1
    size = [abs(e) for e in errors]
    print(
        f"n = {len(errors)}, median |error| = {100 * statistics.median(size):.1f} %, "
        f"largest = {100 * max(size):.1f} %, detected without position: {without}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
