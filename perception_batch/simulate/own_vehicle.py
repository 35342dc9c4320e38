"""The own car's body in base_link, as its cameras see it: bonnet, wings, roof edge, sills, boot.

Base: below the rear axle on the ground. The car is 4.6 x 1.85 m with 2.7 m between the axles, so it reaches from
x = -0.95 to 3.65 and its cabin ends at 1.5 m.
"""

from __future__ import annotations

import math

import numpy as np

from perception_batch.simulate.scene import Mesh

PAINT = (58, 66, 80)
_TRIM = (24, 25, 27)
_GLASS = (38, 46, 56)


def own_vehicle_mesh(paint: tuple[int, int, int] = PAINT) -> Mesh:
    """Surfaces of the own car that its cameras may see, in the base frame, seen from outside.

    A camera inside the car (behind the windscreen, on the roof's edge) sees the bonnet over its rear end: the
    cabin itself has only its outer sides, which nobody sees from within.
    """
    corners: list[tuple[float, float, float]] = []
    faces: list[tuple[int, int, int, int]] = []
    colors: list[tuple[int, int, int]] = []

    def quad(points: list[tuple[float, float, float]], color: tuple[int, int, int]) -> None:
        first = len(corners)
        corners.extend(points)
        faces.append((first, first + 1, first + 2, first + len(points) - 1))
        colors.append(color)

    def strip(
        near: list[tuple[float, float, float]], far: list[tuple[float, float, float]], tones: list[float]
    ) -> None:
        """Quads between two lines that run to the right, `far` lying ahead of or above `near`."""
        for i, tone in enumerate(tones):
            color = (
                min(255, round(paint[0] * tone)),
                min(255, round(paint[1] * tone)),
                min(255, round(paint[2] * tone)),
            )
            quad([near[i], near[i + 1], far[i + 1], far[i]], color)

    # The bonnet: arched across, falling towards the front, in rows from the windscreen to the nose.
    across = [math.sin(t) for t in np.linspace(-math.pi / 2, math.pi / 2, 9)]
    rows = []
    for x, z, half, arch in ((2.35, 0.99, 0.82, 0.05), (2.8, 0.94, 0.81, 0.05), (3.2, 0.86, 0.78, 0.05)):
        rows.append([(x, -half * y, z + arch * (1 - y * y)) for y in across])
    rows.append([(3.55 - 0.16 * y * y, -0.74 * y, 0.72 + 0.04 * (1 - y * y)) for y in across])
    rows.append([(3.65 - 0.20 * y * y, -0.72 * y, 0.50) for y in across])
    tones = [0.96, 0.99, 1.03, 1.06, 1.06, 1.03, 0.99, 0.96]
    for k in range(len(rows) - 1):
        left_to_right = [(x, y, z) for x, y, z in rows[k]]
        ahead = rows[k + 1]
        strip(left_to_right, ahead, [t * (1 - 0.03 * k) for t in tones])

    # Wings and doors, one side after the other; the right one has its corners the other way round.
    for side in (1.0, -1.0):
        profile = [
            ((-0.85, 0.90), (-0.92, 0.35)),
            ((0.0, 0.98), (0.0, 0.30)),
            ((1.4, 1.0), (1.4, 0.28)),
            ((2.35, 0.97), (2.35, 0.28)),
            ((3.2, 0.84), (3.2, 0.30)),
            ((3.5, 0.70), (3.5, 0.34)),
        ]
        y_top = [0.80, 0.88, 0.90, 0.88, 0.80, 0.62]
        for k in range(len(profile) - 1):
            (xa, za), (xb, zb) = profile[k][0], profile[k + 1][0]
            (ua, wa), (ub, wb) = profile[k][1], profile[k + 1][1]
            ya, yb = side * y_top[k], side * y_top[k + 1]
            ring = [(ua, ya * 1.02, wa), (xa, ya, za), (xb, yb, zb), (ub, yb * 1.02, wb)]
            quad(ring if side > 0 else ring[::-1], paint)

    # Boot lid and bumper.
    edge = [math.sin(t) for t in np.linspace(-math.pi / 2, math.pi / 2, 7)]
    boot = [
        [(-0.42, 0.80 * y, 1.02 + 0.03 * (1 - y * y)) for y in edge],
        [(-0.82 + 0.05 * y * y, 0.78 * y, 0.96 + 0.03 * (1 - y * y)) for y in edge],
        [(-0.93 + 0.08 * y * y, 0.78 * y, 0.62) for y in edge],
    ]
    for k in range(2):
        strip(boot[k], boot[k + 1], [0.97, 1.0, 1.04, 1.04, 1.0, 0.97])
    return Mesh(np.array(corners), np.array(faces, np.int32), np.array(colors, np.uint8))
