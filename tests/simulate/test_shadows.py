"""What stands on the ground casts a shadow; what hangs above it casts none near by."""

from __future__ import annotations

import numpy as np
import pytest
from simulate.test_draw_boxes import camera
from simulate.toy_world import ToyWorld, box, flat, pose

from perception_batch.simulate.draw import Drawer
from perception_batch.simulate.scene import Thing


def _ground_changed(foot_m: float, distance_m: float) -> int:
    """Pixels that shadows change below the thing, a box with its foot at a height."""
    mesh = box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5), (40, 40, 40))
    at = pose(distance_m, 0.0, foot_m + 0.5, 0.3)
    world = ToyWorld(
        [Thing(1, "traffic light", at, (1.0, 1.0, 1.0), np.zeros(3), mesh)],
        [flat(-100, -60, 140, 60, 0.0, (150, 150, 150))],
    )
    cam = camera("pinhole", 0.0, 0.05)
    with_shadows = Drawer(cam).draw(world, 0.0)
    without = Drawer(cam, shadows=False).draw(world, 0.0)
    changed = (np.abs(with_shadows.image.astype(int) - without.image) > 6).any(axis=2)
    return int(changed[with_shadows.ids == 0].sum())


@pytest.mark.parametrize("distance_m", [12.0, 25.0, 45.0, 60.0])
def test_only_what_stands_has_a_shadow(distance_m: float) -> None:
    assert _ground_changed(0.0, distance_m) > 4
    assert _ground_changed(4.8, distance_m) == 0
