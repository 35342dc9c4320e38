"""What counts, and how sure the figures shall be. Nothing is imported, so the command line can show the defaults."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EvaluateSettings:
    """Which truth counts. What does not count is neither asked for nor held against the run."""

    min_iou: float = 0.5
    """Overlap from which a detection and a truth box are one."""
    min_height_px: float = 30.0
    """Truth boxes lower than this do not count."""
    min_visible: float = 0.2
    """Truth boxes with a smaller visible share do not count."""
    max_range_m: float = 40.0
    """Positions and tracks count up to this horizontal distance from the base frame's origin."""
    resamples: int = 1000
    """Draws of the bootstrap."""
    seed: int = 0
    """Seed of the bootstrap."""
