"""Truth of a drawn drive without its pictures and its log, kept in a folder for the next time."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from perception_batch.simulate.draw import Drawer
from perception_batch.simulate.gather import ShapeCache
from perception_batch.simulate.own_vehicle import own_vehicle_mesh
from perception_batch.simulate.rigs import rig_of
from perception_batch.simulate.settings import START_NS, SimulateSettings
from perception_batch.simulate.timing import plan
from perception_batch.simulate.truth import TruthWriter, seen_from
from perception_batch.simulate.world import build_world

_LEAD_S = 0.6
"""World time of the first cycle."""
_SEEN_RADIUS_M = 160.0


def make_truth(cache: Path, settings: SimulateSettings) -> Path:
    """The truth folder of a drive, as ``perception-batch simulate`` writes it; drawn only where the cache lacks it."""
    name = f"{settings.preset}-{settings.duration_s:g}s-{settings.rate_hz:g}hz-seed{settings.seed}"
    name += f"-density{settings.density:g}-stagger{settings.faults.stagger_ms:g}{'-hills' if settings.hills else ''}"
    folder, partial = cache / name, cache / f"{name}.partial"
    if (folder / "meta.json").is_file():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(partial, ignore_errors=True)
    rig, shapes, own = rig_of(settings), ShapeCache(), own_vehicle_mesh()
    length_s = settings.cycles / settings.rate_hz + 2 * _LEAD_S
    world = build_world(
        settings.seed, duration_s=length_s, hills=settings.hills, density=settings.density, time_of_day="day"
    )
    drawers = {
        camera.name: Drawer(camera, own_vehicle=own, shadows=False, shapes=shapes)
        for camera in rig.cameras.values()
    }
    truth = TruthWriter(partial, START_NS)
    for cycle in plan(settings):
        truth.add_cycle(cycle)
        time_s = (cycle.cycle_ns - START_NS) / 1e9 + _LEAD_S
        truth.add_scene(cycle, world.ego(time_s), world.things(time_s, settings.truth_radius_m))
        for shot in cycle.shots:
            if not shot.messages:
                continue
            time_s = (shot.true_ns - START_NS) / 1e9 + _LEAD_S
            drawing = drawers[shot.camera].draw(world, time_s)
            things = world.things(time_s, _SEEN_RADIUS_M)
            seen = seen_from(rig.cameras[shot.camera], world.ego(time_s), things)
            drawing = replace(drawing, amodal_px={k: v for k, v in drawing.amodal_px.items() if k in seen})
            truth.add_boxes(cycle, shot, drawing, seen)
    meta = {"rig": rig.to_dict(), "options": settings.to_dict(), "cycles": settings.cycles}
    truth.close(meta)
    partial.rename(folder)
    return folder
