"""The nouns of a drawn drive: shapes, things, what a camera drew. NumPy only.

Frames: `odom` is the fixed frame of the world (z up, metres). An object's own frame has its origin at the
centre of its 3-D box, x forward, y left, z up. `base` is the ego vehicle's base_link: on the ground, below the
middle of the rear axle (REP-105).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from perception_batch.geometry import SE3
from perception_batch.types import Image

FloatArray = npt.NDArray[np.float64]
IdImage = npt.NDArray[np.int32]

NO_OBJECT = 0
"""Id of everything that is no object: sky, ground, buildings, the own vehicle."""


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """Flat coloured polygons with three or four corners."""

    vertices_m: FloatArray
    """(V, 3) corners."""
    faces: npt.NDArray[np.int32]
    """(F, 4) corner numbers, counter-clockwise seen from outside; a triangle repeats its last corner."""
    colors: npt.NDArray[np.uint8]
    """(F, 3) RGB before light."""
    two_sided: bool = False
    """Draw faces that are seen from behind too (leaves, signs, the ground)."""
    shines: npt.NDArray[np.bool_] | None = None
    """(F,) faces that give light themselves where `Light.is_night` (lamps, lit windows), traffic lights always;
    None: no face does."""

    def __post_init__(self) -> None:
        if self.vertices_m.ndim != 2 or self.vertices_m.shape[1] != 3:
            raise ValueError(f"expected vertices (V, 3), got {self.vertices_m.shape}")
        if self.faces.ndim != 2 or self.faces.shape[1] != 4 or len(self.faces) != len(self.colors):
            raise ValueError(
                f"expected faces (F, 4) and colors (F, 3), got {self.faces.shape}, {self.colors.shape}"
            )
        if self.shines is not None and self.shines.shape != (len(self.faces),):
            raise ValueError(f"expected shines ({len(self.faces)},), got {self.shines.shape}")


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """One road user or other object with truth, at one instant."""

    object_id: int
    """Positive, unique over the drive, the same for the same thing at all times."""
    label: str
    """Name of its class in the default ontology."""
    odom_SE3_object: SE3
    """Pose of the centre of its box."""
    size_lwh_m: tuple[float, float, float]
    """Length, width, height of its box; the mesh lies within it and touches all six sides."""
    velocity_mps: FloatArray
    """(3,) over ground, in odom."""
    mesh: Mesh
    """Its shape in its own frame."""


@dataclass(frozen=True, slots=True)
class Light:
    """What the sky and the sun do to colours."""

    sun_odom: FloatArray
    """(3,) unit vector towards the sun (or the moon)."""
    ambient: float
    """Light that comes from everywhere, 0..1."""
    direct: float
    """Light of the sun on a face that looks at it, 0..1."""
    sky_top: tuple[int, int, int]
    """RGB overhead."""
    sky_horizon: tuple[int, int, int]
    """RGB at the horizon; distant things fade towards it."""
    haze_m: float
    """Distance at which a thing has faded to 1/e."""
    is_night: bool
    """Whether lamps and windows shine."""


@dataclass(frozen=True, slots=True, eq=False)
class EgoState:
    """The own vehicle at one instant."""

    odom_SE3_base: SE3
    """Its pose, with the pitch and roll of the ground."""
    velocity_mps: FloatArray
    """(3,) over ground, in the base frame's axes."""
    yaw_rate_radps: float
    """About base z."""


class World(Protocol):
    """A world as a pure function of time: any instant may be asked for, in any order, at a bounded cost.

    The same seed gives the same world. Memory does not grow with the time that is asked for.
    """

    @property
    def light(self) -> Light:
        """Light of the drive."""

    def ego(self, time_s: float) -> EgoState:
        """The own vehicle."""

    def things(self, time_s: float, radius_m: float) -> list[Thing]:
        """Objects within `radius_m` of the own vehicle, by id."""

    def scenery(self, time_s: float, radius_m: float) -> list[Mesh]:
        """Ground, markings, buildings, trees within `radius_m` of the own vehicle, in odom; the same mesh object
        comes back while it is near, so that a renderer may cache what it makes of it."""

    def ground_z_m(self, x_m: float, y_m: float) -> float:
        """Height of the ground in odom."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """What one camera drew at one instant."""

    image: Image
    """(H, W, 3) uint8 RGB, before noise and coding."""
    ids: IdImage
    """(H, W) object id of each pixel, `NO_OBJECT` elsewhere."""
    visible_px: Mapping[int, tuple[float, float, float, float]]
    """By object id: box of its visible pixels, left, top, right, bottom; only objects with a visible pixel."""
    amodal_px: Mapping[int, tuple[float, float, float, float]]
    """By object id: box of what of its whole mesh, as the lens shows it, falls into the image; only objects that
    would have a pixel if nothing stood before them."""
    visible_fraction: Mapping[int, float]
    """By object id: visible pixels over the pixels that it would have if nothing stood before it."""
    truncation: Mapping[int, float]
    """By object id: share of its whole projected box that lies outside the image."""
