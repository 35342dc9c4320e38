"""A sheet of what the simulated cameras see: six cameras by day, dusk and night, and four fisheyes.

python scripts/draw_contact_sheet.py OUT.png [--seed N] [--at SECONDS] [--hills] [--boxes]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from perception_batch.simulate.draw import Drawer
from perception_batch.simulate.gather import ShapeCache
from perception_batch.simulate.own_vehicle import own_vehicle_mesh
from perception_batch.simulate.rigs import rig_of
from perception_batch.simulate.scene import Drawing
from perception_batch.simulate.sensor import Sensor
from perception_batch.simulate.settings import Preset, SimulateSettings, TimeOfDay
from perception_batch.simulate.world import build_world
from perception_batch.types import Image

ROWS = {
    "surround6": (
        "cam_front_left",
        "cam_front",
        "cam_front_right",
        "cam_back_left",
        "cam_back",
        "cam_back_right",
    ),
    "fisheye4": ("cam_left", "cam_front", "cam_right", "cam_back"),
}
TILE = (640, 400)
GAP = 6


def with_boxes(image: Image, drawing: Drawing) -> Image:
    """Amodal boxes thin and dark, visible ones bright."""
    out = image.copy()
    for boxes, color in ((drawing.amodal_px, (40, 60, 90)), (drawing.visible_px, (255, 210, 0))):
        for left, top, right, bottom in boxes.values():
            cv2.rectangle(out, (int(left), int(top)), (int(right) - 1, int(bottom) - 1), color, 1)
    return out


def sheet(seed: int, at_s: float, hills: bool, boxes: bool) -> Image:
    """All rows as one picture, RGB."""
    lines = []
    rows: tuple[tuple[TimeOfDay, Preset], ...] = (
        ("day", "surround6"),
        ("dusk", "surround6"),
        ("night", "surround6"),
        ("day", "fisheye4"),
    )
    for time_of_day, preset in rows:
        world = build_world(seed, duration_s=at_s + 10, time_of_day=time_of_day, hills=hills)
        cameras = rig_of(SimulateSettings(preset=preset)).cameras
        shapes = ShapeCache()
        tiles = []
        for name in ROWS[preset]:
            drawing = Drawer(cameras[name], own_vehicle=own_vehicle_mesh(), shapes=shapes).draw(world, at_s)
            picture = Sensor(seed, name).expose(drawing.image, 0, world.light)
            picture = with_boxes(picture, drawing) if boxes else picture
            tiles.append(np.asarray(cv2.resize(picture, TILE, interpolation=cv2.INTER_AREA), np.uint8))
        wide = 3 if preset == "surround6" else 4
        for first in range(0, len(tiles), wide):
            part = [
                np.pad(tile, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)
                for tile in tiles[first : first + wide]
            ]
            line = np.hstack(part)
            full = 3 * (TILE[0] + GAP)
            lines.append(
                cv2.resize(
                    line, (full, round(line.shape[0] * full / line.shape[1])), interpolation=cv2.INTER_AREA
                )
            )
    return np.ascontiguousarray(np.vstack(lines), np.uint8)


def main() -> None:
    """Draw the sheet and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--at", type=float, default=4.0, help="seconds into the drive")
    parser.add_argument("--hills", action="store_true")
    parser.add_argument("--boxes", action="store_true", help="with the truth's boxes")
    options = parser.parse_args()
    picture = sheet(options.seed, options.at, options.hills, options.boxes)
    if not cv2.imwrite(str(options.out), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        sys.exit(f"cannot write {options.out}: use a name that ends in .png or .jpg in an existing folder")


if __name__ == "__main__":
    main()
