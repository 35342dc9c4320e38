"""How good one camera's picture is: three numbers that tell a blurred, a dark and an overexposed one."""

from __future__ import annotations

import math
from dataclasses import dataclass

DARK_LUMA = 25
"""Luma, 0..255, up to which a pixel counts as dark: a tenth of full scale."""
BRIGHT_LUMA = 250
"""Luma, 0..255, from which a pixel counts as blown out; JPEG leaves clipped white a few levels below 255."""


@dataclass(frozen=True, slots=True)
class PictureQuality:
    """One picture's sharpness and exposure, as `decode.picture_quality` measures them."""

    sharpness: float
    """Variance of the Laplacian of luma at a small scale, grey levels squared: the lower, the more blurred."""
    dark_share: float
    """Share of the pixels with a luma of at most `DARK_LUMA`, 0..1."""
    bright_share: float
    """Share of the pixels with a luma of at least `BRIGHT_LUMA`, 0..1."""

    def __post_init__(self) -> None:
        if not (0 <= self.sharpness < math.inf and 0 <= self.dark_share <= 1 and 0 <= self.bright_share <= 1):
            raise ValueError(
                "expected a sharpness of at least 0 and shares of 0..1, "
                f"got {self.sharpness}, {self.dark_share}, {self.bright_share}"
            )
