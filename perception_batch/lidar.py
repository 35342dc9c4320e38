"""What a lidar tells on its way through the rooms: points while they are needed, then a range per box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perception_batch.geometry import SE3

MAX_POINTS = 100_000
"""Most points of one sweep that are kept, 1.2 MB; of denser ones every second, third ... is."""


@dataclass(frozen=True, slots=True)
class LidarSweep:
    """One point cloud of the log, in the vehicle's frame."""

    stamp_ns: int
    """The header's stamp (or log time, where the cameras go by that), ns."""
    log_ns: int
    """When the recorder received it, ns."""
    points_m: npt.NDArray[np.float32]
    """(N, 3) finite points in the base frame at `stamp_ns`, m; at most `MAX_POINTS`."""

    @property
    def size_bytes(self) -> int:
        """Bytes of the points."""
        return self.points_m.nbytes

    def __repr__(self) -> str:
        return f"LidarSweep(stamp_ns={self.stamp_ns}, points={len(self.points_m)})"


@dataclass(frozen=True, slots=True)
class MovedSweep:
    """The sweep that belongs to one camera's frame."""

    sweep: LidarSweep
    """The points."""
    now_SE3_then: SE3
    """The base frame at the sweep's stamp in that at the timestep's."""
    apart_s: float
    """The camera's exposure less the sweep's stamp, s."""
    motion_known: bool
    """False where the vehicle's motion between the two is unknown, and `now_SE3_then` the identity."""


@dataclass(frozen=True, slots=True)
class LidarRanges:
    """What a sweep says of the N boxes of one image; row ``i`` is detection ``i``."""

    range_m: npt.NDArray[np.float32]
    """(N,) horizontal range from the camera to the near face of what the box shows, m; NaN without one."""
    sigma_m: npt.NDArray[np.float32]
    """(N,) its standard deviation, m; NaN without one."""
    spread_m: npt.NDArray[np.float32]
    """(N,) how far apart the middle half of the points lies along the ray, m; NaN without a range."""
    apart_s: npt.NDArray[np.float32]
    """(N,) the camera's exposure less the sweep's stamp, s; NaN without a range. Things that move were elsewhere."""
    points: npt.NDArray[np.int32]
    """(N,) how many points made the range; 0 without one."""

    def __post_init__(self) -> None:
        n = len(self.points)
        parts = (self.range_m, self.sigma_m, self.spread_m, self.apart_s, self.points)
        if any(part.shape != (n,) for part in parts):
            raise ValueError(f"expected arrays of one length, got {[part.shape for part in parts]}")

    @classmethod
    def nothing(cls, count: int) -> LidarRanges:
        """No range for any of `count` boxes."""
        unknown = np.full(count, np.nan, np.float32)
        return cls(unknown, unknown.copy(), unknown.copy(), unknown.copy(), np.zeros(count, np.int32))
