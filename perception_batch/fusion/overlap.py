"""Which cameras can see the same thing: from lenses and poses, once per rig."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from perception_batch.calibration import Camera, Rig

_RANGES_M = (3.0, 10.0, 60.0)
# Things longer than the gap between two views are seen by both, cut by the border of each: views count as
# overlapping where they come this near (share of the image's width and height).
_MARGIN = 0.25


def overlapping(rig: Rig) -> frozenset[tuple[str, str]]:
    """Pairs of calibrated cameras, each in alphabetical order, whose views overlap or nearly touch."""
    names = sorted(rig.cameras)
    samples = {name: _samples(rig.cameras[name]) for name in names}
    return frozenset(
        (a, b)
        for a, b in combinations(names, 2)
        if _sees(rig.cameras[b], samples[a]) or _sees(rig.cameras[a], samples[b])
    )


def _samples(camera: Camera) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """(N, 3) points of the base frame that the camera sees."""
    lens = camera.intrinsics
    gx, gy = np.meshgrid(np.linspace(0, lens.width_px, 17), np.linspace(0, lens.height_px, 9))
    rays = lens.rays_of_corners(np.stack([gx.ravel(), gy.ravel()], axis=1))
    rays = rays[np.isfinite(rays).all(axis=1)]
    points = np.concatenate([rays * range_m for range_m in _RANGES_M])
    return camera.base_SE3_camera.apply(points)


def _sees(camera: Camera, points_m: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> bool:
    """Whether any point falls into the camera's image, widened by the margin."""
    lens = camera.intrinsics
    uv = lens.project(camera.base_SE3_camera.inverse().apply(points_m))
    u, v = uv[np.isfinite(uv).all(axis=1)].T
    w, h = lens.width_px, lens.height_px
    inside = (u > -_MARGIN * w) & (u < (1 + _MARGIN) * w) & (v > -_MARGIN * h) & (v < (1 + _MARGIN) * h)
    return bool(inside.any())
