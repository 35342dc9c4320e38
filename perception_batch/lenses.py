"""Lenses that change while a drive is recorded: a camera calibrated anew, a focus that moves, another resolution."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

from perception_batch.calibration import Camera, Intrinsics, Rig

_KEPT = 256
"""Lenses of one camera that are kept: seconds of a log that changes it with every frame, more than a timestep waits."""


@dataclass(frozen=True, slots=True)
class CameraLens:
    """The lens of a camera from a time on, as the log's CameraInfo says."""

    camera: str
    """Name of the camera."""
    stamp_ns: int
    """Time of the first image that it belongs to, by the clock of the images, ns."""
    log_ns: int
    """When the recorder received it, ns."""
    intrinsics: Intrinsics
    """The lens."""


class LensWindow:
    """The last lenses of the cameras, by time; each holds until the next, the rig's until the first."""

    def __init__(self) -> None:
        self._lenses: dict[str, deque[tuple[int, Intrinsics]]] = {}

    def add(self, lens: CameraLens) -> None:
        """Take the next lens; of a clock that went back it holds from the last one's time on."""
        lenses = self._lenses.setdefault(lens.camera, deque(maxlen=_KEPT))
        stamp_ns = max(lens.stamp_ns, lenses[-1][0] + 1) if lenses else lens.stamp_ns
        lenses.append((stamp_ns, lens.intrinsics))

    def at(self, cameras: Mapping[str, Camera], frame_stamps_ns: Mapping[str, int]) -> dict[str, Intrinsics]:
        """Lenses at the cameras' exposures, for those that are not as in the rig."""
        out: dict[str, Intrinsics] = {}
        for name, stamp_ns in sorted(frame_stamps_ns.items()):
            camera = cameras.get(name)
            known = (lens for at_ns, lens in reversed(self._lenses.get(name, ())) if at_ns <= stamp_ns)
            lens = next(known, None)
            if camera is not None and lens is not None and lens != camera.intrinsics:
                out[name] = lens
        return out


def rig_with_lenses(rig: Rig, lenses: Mapping[str, Intrinsics]) -> Rig:
    """The rig as it is at a time at which these of its cameras have another lens."""
    if not lenses:
        return rig
    cameras = {
        name: replace(camera, intrinsics=lenses[name]) if name in lenses else camera
        for name, camera in rig.cameras.items()
    }
    return replace(rig, cameras=cameras)
