"""Rigid transforms, boxes, and the map from an image to what the detector sees. NumPy only.

A transform is named ``dst_SE3_src``: it takes points of ``src`` to ``dst``, so that
``a_SE3_c = a_SE3_b @ b_SE3_c`` can be checked by eye.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class SE3:
    """A rigid transform ``dst_SE3_src``."""

    rotation: npt.NDArray[np.float64]
    """(3, 3) rotation matrix."""
    translation_m: npt.NDArray[np.float64]
    """(3,) position of ``src``'s origin in ``dst``, metres."""
    quaternion: tuple[float, float, float, float] | None = field(default=None, repr=False)
    """The unit quaternion (x, y, z, w) that `rotation` was made of, to the bit; None where made otherwise."""

    def __post_init__(self) -> None:
        if self.rotation.shape != (3, 3) or self.translation_m.shape != (3,):
            raise ValueError(
                f"expected rotation (3, 3) and translation (3,), "
                f"got {self.rotation.shape} and {self.translation_m.shape}"
            )

    @classmethod
    def identity(cls) -> SE3:
        """The transform that changes nothing."""
        return cls(np.eye(3), np.zeros(3))

    @classmethod
    def from_quaternion(cls, quaternion_xyzw: npt.ArrayLike, translation_m: npt.ArrayLike) -> SE3:
        """From a quaternion (x, y, z, w), normalised here, and a translation in metres.

        Raises:
            ValueError: not four and three finite numbers, or the quaternion has no length, or one beyond floats.
        """
        q = np.asarray(quaternion_xyzw, np.float64)
        t = np.asarray(translation_m, np.float64)
        shaped = q.shape == (4,) and t.shape == (3,)
        with np.errstate(over="ignore"):
            norm = math.sqrt(q.dot(q)) if shaped else math.nan
        if not (all(map(math.isfinite, t.flat)) and 1e-6 < norm < math.inf):  # false for a norm of NaN
            raise ValueError(f"not a rigid transform: quaternion {q.tolist()}, translation {t.tolist()}")
        if abs(norm - 1) > 1e-12:  # else it is a unit quaternion already, and stays as it was stored
            q = q / norm
        x, y, z, w = q.tolist()
        rotation = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )
        return cls(rotation, t, (x, y, z, w))

    def quaternion_xyzw(self) -> npt.NDArray[np.float64]:
        """(4,) unit quaternion (x, y, z, w): the one it was made of, else with w >= 0 (Shepperd's method)."""
        if self.quaternion is not None:
            return np.array(self.quaternion)
        r = self.rotation
        choices = np.array([r[0, 0], r[1, 1], r[2, 2], np.trace(r)])
        i = int(choices.argmax())
        q = np.empty(4)
        if i == 3:
            q[:] = [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], 1 + choices[3]]
        else:
            j, k = (i + 1) % 3, (i + 2) % 3
            q[i] = 1 - choices[3] + 2 * r[i, i]
            q[j] = r[j, i] + r[i, j]
            q[k] = r[k, i] + r[i, k]
            q[3] = r[k, j] - r[j, k]
        q /= np.linalg.norm(q)
        return q if q[3] >= 0 else -q

    def storable(self) -> SE3:
        """The same transform such that writing its quaternion and reading it back gives it again, to the bit."""
        return (
            self
            if self.quaternion is not None
            else SE3.from_quaternion(self.quaternion_xyzw(), self.translation_m)
        )

    def inverse(self) -> SE3:
        """``src_SE3_dst``."""
        return SE3(self.rotation.T, -(self.rotation.T @ self.translation_m))

    def __matmul__(self, other: SE3) -> SE3:
        return SE3(self.rotation @ other.rotation, self.rotation @ other.translation_m + self.translation_m)

    def apply(self, points_m: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(N, 3) or (3,) points of ``src``, metres, as points of ``dst``."""
        moved: npt.NDArray[np.float64] = points_m @ self.rotation.T + self.translation_m
        return moved

    def interpolate(self, other: SE3, fraction: float) -> SE3:
        """The pose `fraction` (0..1) of the way to `other`: slerp for rotation, a line for position."""
        a, b = self.quaternion_xyzw(), other.quaternion_xyzw()
        dot = float(a @ b)
        if dot < 0:
            b, dot = -b, -dot
        if dot > 0.9995:
            q = a + fraction * (b - a)
        else:
            angle = math.acos(min(1.0, dot))
            q = (math.sin((1 - fraction) * angle) * a + math.sin(fraction * angle) * b) / math.sin(angle)
        t = self.translation_m + fraction * (other.translation_m - self.translation_m)
        return SE3.from_quaternion(q, t)


def box_iou(a_xyxy: npt.NDArray[np.floating], b_xyxy: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """(N, M) intersection over union of (N, 4) and (M, 4) boxes."""
    a = a_xyxy.astype(np.float64)[:, None, :]
    b = b_xyxy.astype(np.float64)[None, :, :]
    wh = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    inter = wh[..., 0] * wh[..., 1]
    area_a = (a[..., 2] - a[..., 0]) * (a[..., 3] - a[..., 1])
    area_b = (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1])
    iou: npt.NDArray[np.float64] = inter / np.maximum(area_a + area_b - inter, 1e-12)
    return iou


@dataclass(frozen=True, slots=True)
class DetectorView:
    """How the original image becomes the detector's input: crop, quarter turns, scale, then bars.

    Coordinates have (0, 0) at the outer corner of the top-left pixel in both images.
    """

    image_hw: tuple[int, int]
    """Height and width of the original image, px."""
    roi_px: tuple[int, int, int, int]
    """What is kept of the original: left, top, right, bottom."""
    rotate_deg: int
    """Clockwise turn after the crop: 0, 90, 180 or 270."""
    resized_hw: tuple[int, int]
    """Size after scaling, px."""
    pad_left_top: tuple[int, int]
    """Width of the left bar and height of the top bar, px."""
    input_hw: tuple[int, int]
    """Size of the detector's input, px."""

    @classmethod
    def fit(
        cls,
        image_hw: tuple[int, int],
        *,
        long_side_px: int,
        stride_px: int = 32,
        roi_px: tuple[int, int, int, int] | None = None,
        rotate_deg: int = 0,
        stretch: bool = False,
    ) -> DetectorView:
        """The view for one image size; it depends on nothing else, so never on the rest of a batch.

        The long side becomes `long_side_px`, the short side keeps the aspect and is padded to the next
        multiple of `stride_px`, evenly on both sides, as Ultralytics does for a batch of one shape.
        With `stretch` (RT-DETR) the image fills a square and has no bars.

        Raises:
            ValueError: the roi lies outside the image, or `rotate_deg` is no quarter turn.
        """
        h, w = image_hw
        x0, y0, x1, y1 = roi_px or (0, 0, w, h)
        if not (0 <= x0 < x1 <= w and 0 <= y0 < y1 <= h):
            raise ValueError(f"roi_px {(x0, y0, x1, y1)} is not inside the image of {w}x{h}")
        if rotate_deg not in (0, 90, 180, 270):
            raise ValueError(f"rotate_deg is {rotate_deg}, allowed are 0, 90, 180, 270")
        ch, cw = y1 - y0, x1 - x0
        if rotate_deg in (90, 270):
            ch, cw = cw, ch
        side = math.ceil(long_side_px / stride_px) * stride_px
        if stretch:
            return cls(image_hw, (x0, y0, x1, y1), rotate_deg, (side, side), (0, 0), (side, side))
        scale = min(side / ch, side / cw)
        rh, rw = max(1, round(ch * scale)), max(1, round(cw * scale))
        ih, iw = math.ceil(rh / stride_px) * stride_px, math.ceil(rw / stride_px) * stride_px
        # Ultralytics rounds the odd pixel of a bar this way (LetterBox, `- 0.1`).
        left, top = round((iw - rw) / 2 - 0.1), round((ih - rh) / 2 - 0.1)
        return cls(image_hw, (x0, y0, x1, y1), rotate_deg, (rh, rw), (left, top), (ih, iw))

    def _turned(self) -> tuple[float, float]:
        """Height and width of the cropped, turned image."""
        x0, y0, x1, y1 = self.roi_px
        return (x1 - x0, y1 - y0) if self.rotate_deg in (90, 270) else (y1 - y0, x1 - x0)

    def to_input(self, xyxy: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """(N, 4) boxes of the original image as boxes of the detector's input."""
        x0, y0, x1, y1 = self.roi_px
        w, h = x1 - x0, y1 - y0
        b = xyxy.astype(np.float64) - (x0, y0, x0, y0)
        left, top, right, bottom = b[:, 0], b[:, 1], b[:, 2], b[:, 3]
        if self.rotate_deg == 90:
            left, top, right, bottom = h - bottom, left, h - top, right
        elif self.rotate_deg == 180:
            left, top, right, bottom = w - right, h - bottom, w - left, h - top
        elif self.rotate_deg == 270:
            left, top, right, bottom = top, w - right, bottom, w - left
        th, tw = self._turned()
        sx, sy = self.resized_hw[1] / tw, self.resized_hw[0] / th
        px, py = self.pad_left_top
        return np.stack([left * sx + px, top * sy + py, right * sx + px, bottom * sy + py], axis=1)

    def to_original(self, xyxy: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """(N, 4) boxes of the detector's input as boxes of the original image, clipped to the roi."""
        th, tw = self._turned()
        sx, sy = tw / self.resized_hw[1], th / self.resized_hw[0]
        px, py = self.pad_left_top
        b = xyxy.astype(np.float64)
        left, right = (b[:, 0] - px) * sx, (b[:, 2] - px) * sx
        top, bottom = (b[:, 1] - py) * sy, (b[:, 3] - py) * sy
        x0, y0, x1, y1 = self.roi_px
        w, h = x1 - x0, y1 - y0
        if self.rotate_deg == 90:
            left, top, right, bottom = top, h - right, bottom, h - left
        elif self.rotate_deg == 180:
            left, top, right, bottom = w - right, h - bottom, w - left, h - top
        elif self.rotate_deg == 270:
            left, top, right, bottom = w - bottom, left, w - top, right
        out = np.stack([left, top, right, bottom], axis=1)
        out[:, 0::2] = np.clip(out[:, 0::2], 0, w) + x0
        out[:, 1::2] = np.clip(out[:, 1::2], 0, h) + y0
        return out.astype(np.float32)
