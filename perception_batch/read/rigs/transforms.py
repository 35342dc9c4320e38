"""The tree of transforms that ``/tf_static`` and ``/tf`` describe."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perception_batch.geometry import SE3

WORLD_FRAMES = ("map", "odom", "world", "earth")
"""REP-105: frames that do not move with the vehicle (``world`` is customary)."""

MAX_DEPTH = 1000

_MAX_METRES = 1e9
"""Earth-centred positions have seven digits; more than nine is damage, and would overflow further on."""


def sound_pose(rotation: Any, translation: Any) -> SE3:
    """A pose from a geometry_msgs Quaternion and Vector3 or Point.

    Raises:
        ValueError: it is not finite, out of all bounds, or the quaternion has no length.
    """
    q = (rotation.x, rotation.y, rotation.z, rotation.w)
    t = (translation.x, translation.y, translation.z)
    if not all(abs(v) < 1e3 for v in q) or not all(abs(v) < _MAX_METRES for v in t):
        raise ValueError(f"no pose: quaternion {q}, translation {t}")
    return SE3.from_quaternion(q, t)


def is_sound(stamped: Any) -> bool:
    """True for a TransformStamped that `TransformTree.add_message` takes: two frames, and a pose."""
    child, parent = frame_name(stamped.child_frame_id), frame_name(stamped.header.frame_id)
    if not child or not parent or child == parent:
        return False
    t, q = stamped.transform.translation, stamped.transform.rotation
    values = (q.x, q.y, q.z, q.w)
    sound = all(abs(v) < _MAX_METRES for v in (t.x, t.y, t.z)) and all(abs(v) < 1e3 for v in values)
    return sound and sum(v * v for v in values) > 1e-12  # `SE3.from_quaternion`: a length above 1e-6


def frame_name(frame_id: object) -> str:
    """A frame id without the leading slash of early ROS 1."""
    return str(frame_id).lstrip("/")


def is_world(frame: str) -> bool:
    """True for `map`, `odom`, ..., also behind a namespace (``robot1/odom``)."""
    return frame.rsplit("/", 1)[-1] in WORLD_FRAMES


class TransformTree:
    """The latest known transform of each frame to its parent."""

    def __init__(self) -> None:
        self._edges: dict[str, tuple[str, SE3]] = {}

    @property
    def frames(self) -> tuple[str, ...]:
        """All frames, sorted."""
        return tuple(sorted({*self._edges, *(parent for parent, _ in self._edges.values())}))

    def copy(self) -> TransformTree:
        """A tree of its own with the same edges."""
        other = TransformTree()
        other._edges = dict(self._edges)
        return other

    def add_message(self, message: Any) -> list[tuple[str, Any]]:
        """Take in a TFMessage; returns (child frame, its TransformStamped) of each sound transform."""
        return self.add_transforms(message.transforms)

    def add_transforms(self, transforms: Iterable[Any]) -> list[tuple[str, Any]]:
        """The same for TransformStamped by themselves."""
        taken = []
        for stamped in transforms:
            child, parent = frame_name(stamped.child_frame_id), frame_name(stamped.header.frame_id)
            try:
                pose = sound_pose(stamped.transform.rotation, stamped.transform.translation)
            except ValueError:
                continue
            if child and parent and child != parent:
                self._edges[child] = (parent, pose)
                taken.append((child, stamped))
        return taken

    def up(self, frame: str) -> list[str]:
        """`frame` and its ancestors, nearest first; stops at a loop."""
        chain = [frame]
        seen = {frame}
        while chain[-1] in self._edges and len(chain) < MAX_DEPTH:
            parent = self._edges[chain[-1]][0]
            if parent in seen:
                break
            seen.add(parent)
            chain.append(parent)
        return chain

    def top(self, frame: str) -> str:
        """The topmost ancestor of `frame` below the world's frames."""
        chain = self.up(frame)
        below = [f for i, f in enumerate(chain) if not any(is_world(g) for g in chain[: i + 1])]
        return below[-1] if below else frame

    def between(self, dst: str, src: str) -> tuple[SE3, tuple[str, ...]] | None:
        """``dst_SE3_src`` and the frames whose edges it uses; None where the two are not connected."""
        if dst == src:
            return SE3.identity(), ()
        ups, downs = self.up(src), self.up(dst)
        common = next((f for f in ups if f in downs), None)
        if common is None:
            return None
        up_edges, down_edges = ups[: ups.index(common)], downs[: downs.index(common)]
        pose = self._climb(down_edges).inverse() @ self._climb(up_edges)
        return pose, (*up_edges, *down_edges)

    def _climb(self, edges: Iterable[str]) -> SE3:
        """``ancestor_SE3_frame`` along the edges of a frame and its ancestors."""
        pose = SE3.identity()
        for frame in edges:
            pose = self._edges[frame][1] @ pose
        return pose
