"""Low-polygon people in four poses of a step."""

from __future__ import annotations

from perception_batch.simulate.scene import Mesh
from perception_batch.simulate.shapes import Color, Shape, shade

JACKETS: tuple[Color, ...] = (
    (196, 52, 52),
    (44, 74, 140),
    (220, 190, 60),
    (60, 62, 68),
    (62, 132, 88),
    (226, 120, 48),
)
SKIN: tuple[Color, ...] = ((236, 194, 164), (198, 146, 110), (126, 86, 62))

POSES = 4
"""Long step with the left leg ahead, passing, long step with the right leg ahead, passing."""


def person(
    size: tuple[float, float, float], jacket: Color, trousers: Color, skin: Color, hair: Color, pose: int
) -> Mesh:
    """Someone who walks, in one of `POSES` poses; each pose fills the box from front to back."""
    length, width, height = size
    shape = Shape()
    half, w = length / 2, width / 2
    hip, shoulder, chin = 0.5 * height, 0.83 * height, 0.87 * height
    depth = min(0.16, 0.3 * length)
    lead = 1 if pose < 2 else -1
    passing = pose % 2 == 1
    shoe = (46, 42, 40)
    for sign in (1, -1):
        y = sign * 0.36 * w
        # Where the foot is: far ahead and far behind, or one below the body and the other lifted behind.
        ahead = sign == lead
        foot_x = (half - 0.24 if ahead else -half) if not passing else (-0.1 if ahead else -half)
        foot_z = 0.0 if not passing or ahead else 0.12 * height
        leg = 0.3 * w
        ankle = foot_x + 0.06
        shape.hexahedron(
            [
                (ankle + 0.12, y + leg, foot_z + 0.06),
                (ankle, y + leg, foot_z + 0.06),
                (ankle, y - leg, foot_z + 0.06),
                (ankle + 0.12, y - leg, foot_z + 0.06),
            ],
            [
                (depth * 0.9, y + leg, hip + 0.02),
                (-depth * 0.9, y + leg, hip + 0.02),
                (-depth * 0.9, y - leg, hip + 0.02),
                (depth * 0.9, y - leg, hip + 0.02),
            ],
            {"side": trousers},
        )
        shape.box((foot_x, y - leg, foot_z), (foot_x + 0.24, y + leg, foot_z + 0.07), shoe, floor=True)
        # The arm swings against the leg; while passing, the forearms are ahead.
        hand_x = (-0.8 * half if ahead else 0.72 * half) if not passing else half - 0.1
        hand_z = 0.5 * height if not passing else 0.6 * height
        y_arm = sign * (w - 0.06)
        shape.hexahedron(
            [
                (hand_x + 0.1, y_arm + 0.06, hand_z),
                (hand_x, y_arm + 0.06, hand_z),
                (hand_x, y_arm - 0.05, hand_z),
                (hand_x + 0.1, y_arm - 0.05, hand_z),
            ],
            [
                (0.08, y_arm + 0.06, shoulder),
                (-0.08, y_arm + 0.06, shoulder),
                (-0.08, y_arm - 0.05, shoulder),
                (0.08, y_arm - 0.05, shoulder),
            ],
            {"side": shade(jacket, 0.92), "bottom": skin},
            floor=True,
        )
    shape.hexahedron(
        [(depth, 0.66 * w, hip), (-depth, 0.66 * w, hip), (-depth, -0.66 * w, hip), (depth, -0.66 * w, hip)],
        [
            (depth * 0.9, 0.84 * w, shoulder),
            (-depth * 0.9, 0.84 * w, shoulder),
            (-depth * 0.9, -0.84 * w, shoulder),
            (depth * 0.9, -0.84 * w, shoulder),
        ],
        {"side": jacket},
    )
    head = min(0.1, 0.34 * w)
    shape.box((-0.05, -0.05, shoulder), (0.05, 0.05, chin), skin)
    shape.box((-head, -head, chin), (head, head, 0.97 * height), skin)
    shape.box(
        (-head - 0.015, -head - 0.01, 0.94 * height), (head * 0.8, head + 0.01, height), hair, floor=True
    )
    return shape.mesh_in_box(size)
