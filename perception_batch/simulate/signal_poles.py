"""Where the poles, arms and heads of traffic lights stand, from the middle of a junction."""

from __future__ import annotations

from perception_batch.simulate.streets import KERB_M, STOP_LINE_M


def signal_poles() -> list[tuple[float, float, float]]:
    """x, y (from the junction's middle) and height of the poles: per heading one at the near corner, and one
    across the junction that carries an arm."""
    poles = []
    for heading in range(4):
        near, far = _signal_corners(heading)
        poles += [(*near, 3.6), (*far, 5.75)]
    return poles


def _turned(heading: int, ahead: float, right: float) -> tuple[float, float]:
    ax, ay = ((1, 0), (0, 1), (-1, 0), (0, -1))[heading]
    return ahead * ax + right * ay, ahead * ay - right * ax


def _signal_corners(heading: int) -> tuple[tuple[float, float], tuple[float, float]]:
    return _turned(heading, -STOP_LINE_M + 0.6, KERB_M + 0.6), _turned(
        heading, STOP_LINE_M - 0.6, KERB_M + 1.2
    )


def signal_arms(heading: int) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The arm of the far pole for a heading, from where to where."""
    return [(_turned(heading, STOP_LINE_M - 0.6, KERB_M + 1.2), _turned(heading, STOP_LINE_M - 0.6, 2.4))]


def signal_heads(heading: int) -> list[tuple[float, float, float]]:
    """x, y and height of the middle of the lights that those who go in a heading look at."""
    near, _ = _signal_corners(heading)
    return [(*near, 3.1), (*_turned(heading, STOP_LINE_M - 0.85, 3.4), 5.2)]
