"""Poses of cameras on the vehicle that change while the log goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from perception_batch.geometry import SE3
from perception_batch.mounts import CameraMount
from perception_batch.read.images.clock import plausible
from perception_batch.read.images.frames import int64
from perception_batch.read.rigs.transforms import TransformTree, frame_name, is_sound
from perception_batch.read.small_message import stamp_of

_NOISE_M, _NOISE = 1e-6, 1e-7  # below it two transforms are the same, written twice


class MountFollower:
    """Follows the chains of transforms from the base frame to the cameras.

    Args:
        tree: the transforms that the rig was made of; changed from here on.
        base_frame: of the rig.
        frames: optical frame by camera, of those whose pose is the log's.
    """

    def __init__(self, tree: TransformTree, base_frame: str, frames: Mapping[str, str]) -> None:
        self._tree = tree
        self._base_frame = base_frame
        self._frames = {name: frame_name(frame) for name, frame in frames.items()}
        self._last: dict[str, SE3] = {}
        self._chains: dict[str, frozenset[str]] = {}
        for name, frame in self._frames.items():
            link = tree.between(base_frame, frame)
            if link is not None:
                self._last[name], self._chains[name] = link[0], frozenset(link[1])
        self._edges = frozenset().union(*self._chains.values())
        self.changes: Counter[str] = Counter()
        """By camera: how often it was moved so far."""
        self.first_ns: dict[str, int] = {}
        """By camera: when it was moved first."""

    @property
    def is_needed(self) -> bool:
        """Whether transforms can move a camera: static ones that are corrected, others that come to its chain."""
        return bool(self._edges)

    def take(self, content: Any, log_ns: int, *, is_static: bool) -> Iterator[CameraMount]:
        """What a TFMessage changes; a moving camera is told of each time, a fixed one not at all."""
        mine = [t for t in content.transforms if is_sound(t) and frame_name(t.child_frame_id) in self._edges]
        if not mine:
            return
        stamp_ns = max(stamp_of(t.header) for t in mine)
        self._tree.add_transforms(mine)
        moved = {frame_name(t.child_frame_id) for t in mine}
        for name in sorted(self._chains):
            if not self._chains[name] & moved:
                continue
            link = self._tree.between(self._base_frame, self._frames[name])
            if link is None:  # the message hung it elsewhere: it stays where it was
                continue
            pose, last = link[0], self._last[name]
            apart_m = float(np.abs(pose.translation_m - last.translation_m).max())
            if apart_m > _NOISE_M or float(np.abs(pose.rotation - last.rotation).max()) > _NOISE:
                self._last[name] = pose
                at_ns = int64(stamp_ns if plausible(stamp_ns, log_ns) else log_ns)
                self.changes[name] += 1
                self.first_ns.setdefault(name, at_ns)
                yield CameraMount(name, at_ns, int64(log_ns), pose, is_static)
