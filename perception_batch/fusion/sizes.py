"""Size priors of boxes, by the class that each is taken for, with all that follows from the class alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.calibration import FloatArray
from perception_batch.fusion.columns import Columns
from perception_batch.ontology import ObjectClass

_HEADINGS = 16  # of the unknown yaw, over half a turn
_PSI = (np.arange(_HEADINGS) + 0.5)[:, None] * (np.pi / _HEADINGS)  # a row each: sums over rows are fast
SIN_PSI, COS_PSI = np.sin(_PSI), np.cos(_PSI)
"""(16, 1) each: of the headings against the line of sight that stand for an unknown one."""
# What touches the ground stands inside the outline: wheels behind the bumper by 0.8 to 0.9 m of a car's 4.6 m
# (its overhangs), feet under the body.
INSET_LENGTH, INSET_WIDTH = 0.17, 0.05
_INSET_SIGMA = 0.06  # of the length: overhangs differ, and roofs begin where they like


@dataclass(frozen=True, slots=True)
class Sizes(Columns):
    """Size priors of N boxes, metres."""

    length_m: FloatArray
    """(N,) mean."""
    width_m: FloatArray
    """(N,) mean."""
    height_m: FloatArray
    """(N,) mean."""
    length_var: FloatArray
    """(N,) m²."""
    width_var: FloatArray
    """(N,) m²."""
    height_relative: FloatArray
    """(N,) variance of the height, relative to its square."""
    tallest: FloatArray
    """(N,) hardly any is taller than this many times the mean."""
    on_ground: npt.NDArray[np.bool_]
    """(N,) whether it stands on the ground."""
    center_m: FloatArray
    """(N,) height of the centre above what its position on the ray is of: half the height, or 0 off the ground."""
    center_sigma_m: FloatArray
    """(N,) standard deviation of `center_m`."""
    narrowest: FloatArray
    """(N,) width over height of the narrowest view."""
    behind_end_m: FloatArray
    """(N,) from where it stands to its centre, seen end on."""
    behind_side_m: FloatArray
    """(N,) the same, seen from the side."""
    behind_end_var: FloatArray
    """(N,) variance of `behind_end_m`, m²."""
    behind_side_var: FloatArray
    """(N,) variance of `behind_side_m`, m²."""
    broad_m: FloatArray
    """(16, N) how wide it shows, by heading."""
    broad_relative: FloatArray
    """(16, N) variance of `broad_m`, relative to its square."""

    @classmethod
    def of(cls, entries: Sequence[ObjectClass]) -> Sizes:
        """The priors of N classes."""
        length, width, height = np.array([e.size_lwh_m for e in entries], np.float64).reshape(-1, 3).T
        length_var, width_var, height_var = (
            np.array([e.size_sd_m for e in entries], np.float64).reshape(-1, 3).T ** 2
        )
        standing = np.array([e.on_ground for e in entries], bool)
        broad = length * np.abs(SIN_PSI) + width * np.abs(COS_PSI)
        return cls(
            length,
            width,
            height,
            length_var,
            width_var,
            height_var / height**2,
            1 + 2 * np.sqrt(height_var) / height,
            standing,
            np.where(standing, 0.5 * height, 0.0),
            np.where(standing, 0.5 * np.sqrt(height_var), 0.0),
            np.minimum(length, width) / height,
            np.where(standing, 0.5 - INSET_LENGTH, 0.5) * length,
            np.where(standing, 0.5 - INSET_WIDTH, 0.5) * width,
            0.25 * length_var + (_INSET_SIGMA * length) ** 2,
            0.25 * width_var,
            broad,
            (length_var * SIN_PSI**2 + width_var * COS_PSI**2) / broad**2,
        )
