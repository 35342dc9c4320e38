"""How fast ``perception-batch simulate`` is on one core: images a second of the whole command, and where they go.

    python scripts/benchmark_simulator.py [--preset surround6 --preset front ...] [--duration 20] [--stagger 40]

Every drive is written as the command writes it, log and truth, to a folder that is removed again. CPU time is what is
measured, so that other programs on the machine count less; wall time stands beside it. The process is held on one core
where the system can do so, and OpenCV on one thread.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import cv2

from perception_batch.simulate.drive import simulate
from perception_batch.simulate.road_users import plan_traffic
from perception_batch.simulate.scene import EgoState, Light, Mesh, Thing, World
from perception_batch.simulate.settings import CAMERAS, Faults, Preset, SimulateSettings
from perception_batch.simulate.stage import real_stage
from perception_batch.simulate.stopwatch import Stopwatch

STAGES = ("world", "draw", "sensor", "encode", "truth", "write")


@dataclass(frozen=True, slots=True)
class WatchedWorld:
    """A world whose time is counted for itself, whoever asks it."""

    world: World
    watch: Stopwatch

    @property
    def light(self) -> Light:
        """See `World`."""
        return self.world.light

    def ego(self, time_s: float) -> EgoState:
        """See `World`."""
        with self.watch.stage("world"):
            return self.world.ego(time_s)

    def things(self, time_s: float, radius_m: float) -> list[Thing]:
        """See `World`."""
        with self.watch.stage("world"):
            return self.world.things(time_s, radius_m)

    def scenery(self, time_s: float, radius_m: float) -> list[Mesh]:
        """See `World`."""
        with self.watch.stage("world"):
            return self.world.scenery(time_s, radius_m)

    def ground_z_m(self, x_m: float, y_m: float) -> float:
        """See `World`."""
        return self.world.ground_z_m(x_m, y_m)


def measure(settings: SimulateSettings) -> None:
    """Write one drive and print its table."""
    plan_traffic.cache_clear()  # the command builds one world, and this one is built for each preset
    stage, watch, building_s = real_stage(), Stopwatch(), 0.0

    def world(settings: SimulateSettings, length_s: float) -> World:
        nonlocal building_s
        start_s = time.process_time()
        built = stage.world(settings, length_s)
        building_s = time.process_time() - start_s
        return WatchedWorld(built, watch)

    wall_s, cpu_s = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        log = simulate(Path(folder) / "drive", settings, stage=replace(stage, world=world), watch=watch)
        wall_s, cpu_s = time.monotonic() - wall_s, time.process_time() - cpu_s
        files = [log] if log.is_file() else list(log.iterdir())
        size_mb = sum(file.stat().st_size for file in files) / 1e6
    images = settings.cycles * len(CAMERAS[settings.preset])
    width, height = settings.size_px
    print(
        f"{settings.preset}, {settings.time_of_day}{', hills' if settings.hills else ''}: {images} images of "
        f"{width}x{height} in {settings.duration_s:g} s, {settings.image}, {settings.container}, {size_mb:.0f} MB"
    )
    spent_ns = dict(watch.spent_ns)
    spent_ns["world"] -= round(building_s * 1e9)
    rest_ns = round(cpu_s * 1e9) - sum(watch.spent_ns.values())
    for name in STAGES:
        print(f"  {name:8} {spent_ns.get(name, 0) / images / 1e6:6.2f} ms an image")
    print(f"  {'rest':8} {rest_ns / images / 1e6:6.2f} ms an image")
    print(f"  building the world took {building_s:.2f} s")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e3 if sys.platform == "linux" else 1e6)
    print(
        f"  {images / cpu_s:.1f} images/s of CPU time, {images / wall_s:.1f} of wall time, one core; ", end=""
    )
    print(f"peak {peak_mb:.0f} MB so far", flush=True)


def main() -> None:
    """Measure each preset."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", choices=sorted(CAMERAS), action="append", help="all where none is named")
    parser.add_argument("--time-of-day", choices=["day", "dusk", "night"], default="day")
    parser.add_argument("--hills", action="store_true")
    parser.add_argument("--duration", type=float, default=20.0, help="seconds of each drive (20)")
    parser.add_argument("--stagger", type=float, default=0.0, help="ms, cameras at times of their own")
    parser.add_argument("--size", default="960x600")
    parser.add_argument("--image", default="jpeg")
    parser.add_argument("--format", default="mcap")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cv2.setNumThreads(1)
    width, height = (int(part) for part in options.size.split("x"))
    presets: list[Preset] = options.preset or list(CAMERAS)
    for preset in presets:
        measure(
            SimulateSettings(
                preset=preset,
                duration_s=options.duration,
                size_px=(width, height),
                container=options.format,
                image=options.image,
                seed=options.seed,
                time_of_day=options.time_of_day,
                hills=options.hills,
                faults=Faults(stagger_ms=options.stagger),
            )
        )


if __name__ == "__main__":
    main()
