"""How fast the simulator draws on one core: images a second, and the milliseconds of each stage.

    python scripts/benchmark_simulator.py [--preset surround6|front|fisheye4] [--time-of-day day|dusk|night]

CPU time is what is measured, so that other programs on the machine count less; wall time stands beside it. The
process is held on one core where the system can do so, and OpenCV on one thread.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2

from perception_batch.simulate.draw import Drawer
from perception_batch.simulate.gather import ShapeCache
from perception_batch.simulate.own_vehicle import own_vehicle_mesh
from perception_batch.simulate.rigs import rig_of
from perception_batch.simulate.sensor import Sensor
from perception_batch.simulate.settings import SimulateSettings
from perception_batch.simulate.world import build_world

T = TypeVar("T")


class Stages:
    """CPU time by stage, ns."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = {}

    def run(self, stage: str, work: Callable[[], T]) -> T:
        """The result of `work`, its time added to the stage."""
        start = time.process_time_ns()
        result = work()
        self.spent[stage] = self.spent.get(stage, 0) + time.process_time_ns() - start
        return result


def main() -> None:
    """Draw, expose, encode and write `--steps` timesteps and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", choices=["surround6", "front", "fisheye4"], default="surround6")
    parser.add_argument("--time-of-day", choices=["day", "dusk", "night"], default="day")
    parser.add_argument("--hills", action="store_true")
    parser.add_argument("--steps", type=int, default=24, help="timesteps, one every 1/12 s")
    parser.add_argument("--start", type=float, default=3.0, help="seconds into the drive")
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)

    world = build_world(
        options.seed, duration_s=options.start + 60, time_of_day=options.time_of_day, hills=options.hills
    )
    rig = rig_of(SimulateSettings(preset=options.preset))
    shapes = ShapeCache()
    drawers = {
        name: Drawer(camera, own_vehicle=own_vehicle_mesh(), shapes=shapes)
        for name, camera in rig.cameras.items()
    }
    sensors = {name: Sensor(options.seed, name) for name in drawers}
    stages, images, size, things = Stages(), 0, 0, 0
    for name, drawer in drawers.items():  # meshes and noise are made ready once
        sensors[name].expose(drawer.draw(world, options.start).image, 0, world.light)
    wall = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "frames").open("wb") as log:
        for step in range(options.steps):
            at = options.start + step / 12
            stages.run(
                "world", lambda at=at: (world.things(at, 160.0), world.scenery(at, 160.0), world.ego(at))
            )
            for name, drawer in drawers.items():
                drawing = stages.run("draw", lambda drawer=drawer, at=at: drawer.draw(world, at))
                picture = stages.run(
                    "sensor",
                    lambda name=name, drawing=drawing, step=step: sensors[name].expose(
                        drawing.image, step, world.light
                    ),
                )
                jpeg = stages.run(
                    "jpeg",
                    lambda picture=picture: cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1],
                )
                stages.run("write", lambda jpeg=jpeg: log.write(jpeg.tobytes()))
                images, size, things = images + 1, size + len(jpeg), things + len(drawing.amodal_px)
    wall = time.monotonic() - wall
    total = sum(stages.spent.values())
    width, height = next(iter(rig.cameras.values())).intrinsics.width_px, drawing.image.shape[0]
    print(
        f"{images} images of {width}x{height}, {options.preset}, {options.time_of_day}, {things / images:.0f} things each"
    )
    for stage, spent in stages.spent.items():
        print(f"  {stage:8} {spent / images / 1e6:6.1f} ms an image")
    print(f"  {'all':8} {total / images / 1e6:6.1f} ms an image; {size / images / 1e3:.0f} kB an image")
    print(
        f"{images * 1e9 / total:.1f} images/s of CPU time, {images / wall:.1f} images/s of wall time, one core"
    )


if __name__ == "__main__":
    main()
