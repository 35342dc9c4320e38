"""Boxes whose lower edge a nearer box covers: what is hidden there makes things look farther away than they are.

A person behind a parked car shows head and shoulders: a box of a quarter of the height, four times as far away. On
simulated drives things so covered look 40 % too far in the middle, and up to six times; things that nothing covers are
within 10 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from perception_batch.track.lives import Boxes
from perception_batch.track.sighting import Sightings
from perception_batch.types import FloatArray, FusedObject

_ALL_OF_IT = 0.95
"""Share of the low edge that one nearer box covers from which on it is that box's edge."""
_HIDDEN_SIGMA = 0.5
"""Of the logarithm of the range, by what is hidden below such an edge."""
_LOWER = 0.02
"""A box that reaches lower by less than this share of the other one's height may as well stand beside it."""


def hidden_below(objects: Sequence[FusedObject], boxes: Mapping[str, Boxes]) -> npt.NDArray[np.bool_]:
    """(M,) whether in every camera that sees the object a nearer object's box covers all of its lower edge.

    Args:
        objects: of one timestep.
        boxes: by camera, (K, 4) px.
    """
    out = np.ones(len(objects), bool)
    number = {camera: k for k, camera in enumerate(boxes)}
    seen = [(number[o.camera], o.detection, m) for m, item in enumerate(objects) for o in item.observations]
    if not seen:
        return ~out
    camera, which, of = np.array(seen).T
    first = np.array([0, *map(len, boxes.values())]).cumsum()
    box: FloatArray = np.concatenate(list(boxes.values()))[first[camera] + which].astype(np.float64)
    left, high, right, low = box.T
    nearer = (low + _LOWER * (low - high))[:, None] < low
    nearer &= low[:, None] > high
    nearer &= camera[:, None] == camera
    i, j = nearer.nonzero()
    wide = np.minimum(right[i], right[j]) - np.maximum(left[i], left[j])
    under = np.zeros(len(box), bool)
    under[i[wide >= _ALL_OF_IT * (right - left)[i]]] = True
    out[of[~under]] = False
    return out


def doubting(seen: Sightings, hidden: npt.NDArray[np.bool_]) -> Sightings:
    """The same, with little said of the range of those that are `hidden` below."""
    if not hidden.any():
        return seen
    noise = seen.noise.copy()
    noise[hidden, 0, 0] += _HIDDEN_SIGMA**2
    return replace(seen, noise=noise)
