"""What a camera's optics and sensor do to a drawn picture: glare, blur, vignette, exposure, noise.

Noise follows the usual model, variance = read noise squared + gain times signal (Janesick, Photon Transfer,
2007). Its normals are drawn once for a camera; each picture takes them from another place, turned over at random:
drawing them afresh would cost more than drawing the scene.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from perception_batch.simulate.scene import Light
from perception_batch.types import Image

Int16Array = npt.NDArray[np.int16]
FloatArray = npt.NDArray[np.float64]

_STRIP_ROWS = 60
"""Rows of the picture that are worked on at a time."""

_SPARE_PX = 160
"""The sheet of noise is larger than the picture by this much on both sides."""
_READ_DN, _SHOT_DN = 1.1, 0.028
"""Read noise, in steps of 0..255, and variance per step of signal, of a camera by day."""
_NIGHT_GAIN = 3.2
"""By night the sensor's gain is up: noise deviates so much more."""
_SCALE = 64
"""Normals are kept as whole numbers, this times larger."""


@dataclass(frozen=True, slots=True, eq=False)
class _Noise:
    """What of the sheet of normals falls onto one picture."""

    normals: Int16Array
    """(H, W, 3), times `_SCALE`."""
    turn: int
    """How they are turned over: 0 both ways, 1 up and down, 2 left and right, 3 not."""
    sigma: Int16Array
    """(256,) deviation by what the pixel was before exposure, times 16."""

    def turned(self, top: int, stop: int, out: Int16Array) -> None:
        """Rows of them as they lie on the picture."""
        height = len(self.normals)
        rows = self.normals[height - stop : height - top] if self.turn in (0, 1) else self.normals[top:stop]
        if self.turn == 3:
            np.copyto(out, rows)
        else:
            cv2.flip(rows, self.turn - 1, out)


@dataclass(frozen=True, slots=True, eq=False)
class _Scratch:
    """Memory for some rows of a picture."""

    soft: Image
    dim: Image
    wide: Int16Array
    grain: Int16Array


class Sensor:
    """One camera's sensor. The same seed, camera and frame number give the same picture."""

    def __init__(
        self,
        seed: int,
        camera_name: str = "",
        *,
        noise: float = 1.0,
        blur_px: float = 0.45,
        exposure_jitter: float = 0.02,
        vignette: float = 0.16,
        glare: float = 1.0,
    ) -> None:
        """`noise` and `glare` are factors, 0 for none; `vignette` is what the corners lose.

        Raises:
            ValueError: a number is negative or not finite, or the vignette is not below 1.
        """
        numbers = {
            "noise": noise,
            "blur_px": blur_px,
            "exposure_jitter": exposure_jitter,
            "vignette": vignette,
            "glare": glare,
        }
        for name, value in numbers.items():
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be at least 0, got {value}")
        if vignette >= 1:
            raise ValueError(f"vignette must be below 1, got {vignette}")
        self._entropy = (seed & 0xFFFFFFFFFFFFFFFF, zlib.crc32(camera_name.encode()))
        self._noise, self._blur_px, self._jitter = noise, blur_px, exposure_jitter
        self._vignette, self._glare = vignette, glare
        self._next = 0
        self._sheet: Int16Array | None = None
        self._falloff: Image | None = None
        self._scratch: _Scratch | None = None

    def expose(self, image: Image, frame_index: int | None = None, light: Light | None = None) -> Image:
        """The (H, W, 3) picture as the sensor gives it; a new array.

        `frame_index` counts the camera's pictures (None: the one after the last); `light` says whether it is night.
        """
        index = self._next if frame_index is None else frame_index
        self._next = index + 1
        rng = np.random.Generator(
            np.random.PCG64(np.random.SeedSequence((*self._entropy, index & 0xFFFFFFFF)))
        )
        night = light is not None and light.is_night
        seen = _with_glare(image, self._glare) if night and self._glare > 0 else image
        gain = float(np.exp(self._jitter * np.clip(rng.standard_normal(), -3, 3)))
        level = np.arange(256, dtype=np.float64)
        # A soft shoulder: what would be over the top is squeezed into the last steps.
        exposed = level * gain
        exposed = np.where(exposed > 225, 225 + 30 * (1 - np.exp(-(exposed - 225) / 30)), exposed)
        exposed = np.clip(np.round(exposed), 0, 255)
        noise = self._noise_for(seen.shape, rng, exposed, self._noise * (_NIGHT_GAIN if night else 1.0))
        return self._taken(np.ascontiguousarray(seen), exposed, noise)

    def _taken(self, seen: Image, exposed: FloatArray, noise: _Noise | None) -> Image:
        """A new picture: blurred, darker towards its corners, exposed and noisy.

        A few rows at a time, in the same memory again and again: what stays in the processor's cache is half the work.
        """
        height, width = seen.shape[:2]
        falloff = self._falloff_for(seen) if self._vignette > 0 else None
        kernel = (3, 3) if self._blur_px < 0.9 else (2 * math.ceil(3 * self._blur_px) + 1,) * 2
        around = kernel[0] // 2 if self._blur_px > 0.05 else 0
        size = (_STRIP_ROWS, width, 3)
        if self._scratch is None or self._scratch.soft.shape != (size[0] + 2 * around, *size[1:]):
            soft = np.empty((size[0] + 2 * around, *size[1:]), np.uint8)
            self._scratch = _Scratch(soft, np.empty(size, np.uint8), *np.empty((2, *size), np.int16))
        scratch, out = self._scratch, np.empty_like(seen)
        as_byte, as_wide = exposed.astype(np.uint8), exposed.astype(np.int16)
        for top in range(0, height, _STRIP_ROWS):
            stop = min(top + _STRIP_ROWS, height)
            rows: Image = seen[top:stop]
            if around:
                first, last = max(top - around, 0), min(stop + around, height)
                soft = scratch.soft[: last - first]
                cv2.GaussianBlur(seen[first:last], kernel, self._blur_px, dst=soft)
                rows = soft[top - first : stop - first]
            if falloff is not None:
                dim = scratch.dim[: stop - top]
                cv2.multiply(rows, falloff[top:stop], dim, scale=1 / 255)
                rows = dim
            if noise is None:
                cv2.LUT(rows, as_byte, out[top:stop])
                continue
            wide, grain = scratch.wide[: stop - top], scratch.grain[: stop - top]
            noise.turned(top, stop, grain)
            # All in whole numbers of one type: OpenCV is several times slower where types are mixed.
            cv2.LUT(rows, noise.sigma, wide)
            cv2.multiply(grain, wide, grain, scale=1 / (16 * _SCALE))
            cv2.LUT(rows, as_wide, wide)
            cv2.add(wide, grain, wide)
            np.clip(wide, 0, 255, out=wide)
            np.copyto(out[top:stop], wide, casting="unsafe")
        return out

    def _noise_for(
        self, shape: tuple[int, ...], rng: np.random.Generator, exposed: FloatArray, factor: float
    ) -> _Noise | None:
        if factor <= 0:
            return None
        height, width = shape[:2]
        sheet = self._sheet_for(height, width)
        y, x = (int(v) for v in rng.integers(0, _SPARE_PX, 2))
        sigma = factor * np.sqrt(_READ_DN**2 + _SHOT_DN * exposed)
        return _Noise(
            sheet[y : y + height, x : x + width],
            int(rng.integers(0, 4)),
            np.round(16 * sigma).astype(np.int16),
        )

    def _sheet_for(self, height: int, width: int) -> Int16Array:
        """Normals a little larger than the picture; neighbouring pixels share a part, as after demosaicing."""
        size = (height + _SPARE_PX, width + _SPARE_PX)
        if self._sheet is None or self._sheet.shape[:2] != size:
            rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((*self._entropy, 1 << 40))))
            grey = rng.standard_normal((*size, 1), dtype=np.float32)
            color = cv2.GaussianBlur(rng.standard_normal((*size, 3), dtype=np.float32), (3, 3), 0.7)
            mixed = 0.75 * grey + 0.66 * np.asarray(color, np.float32) / float(color.std())
            self._sheet = np.clip(np.round(mixed * _SCALE), -32000, 32000).astype(np.int16)
        return self._sheet

    def _falloff_for(self, image: Image) -> Image:
        """(H, W, 3) what of the light arrives: it falls with the fourth power of the cosine, scaled to the corner."""
        height, width = image.shape[:2]
        if self._falloff is None or self._falloff.shape != image.shape:
            y = (np.arange(height) - (height - 1) / 2) / (height / 2)
            x = (np.arange(width) - (width - 1) / 2) / (width / 2)
            aspect = height / width
            r2 = (x[None] ** 2 + (y[:, None] * aspect) ** 2) / (1 + aspect**2)
            cosine4 = 1 / (1 + r2 * (1 / np.sqrt(1 - self._vignette) - 1)) ** 2
            self._falloff = np.repeat(np.round(cosine4 * 255).astype(np.uint8)[..., None], 3, axis=2)
        return self._falloff


def low_passed(image: Image) -> Image:
    """The (H, W, 3) picture behind an optical low-pass filter, as cameras have it before the mosaic of their colours.

    Two birefringent plates each way, a pixel's width apart in all: what repeats every two pixels is gone, so that
    sharp edges do not alias into false colours (Greivenkamp, Color dependent optical prefilter, Applied Optics 1990).
    """
    spread = np.array([1, 2, 1], np.float32) / 4
    return np.asarray(cv2.sepFilter2D(image, -1, spread, spread), np.uint8)


def _with_glare(image: Image, strength: float) -> Image:
    """Light of bright spots scattered around them."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (max(width // 4, 1), max(height // 4, 1)), interpolation=cv2.INTER_AREA)
    # What is bright by its brightest channel scatters all its light, so that halos keep their lamp's colour.
    red, green, blue = cv2.split(small)
    peak = cv2.subtract(cv2.max(cv2.max(red, green), blue), np.full(red.shape, 165, np.uint8))
    bright = cv2.multiply(small, cv2.merge([peak, peak, peak]), scale=1 / 90)
    near = cv2.blur(cv2.blur(bright, (5, 5)), (5, 5))
    tiny = cv2.resize(bright, (max(width // 16, 1), max(height // 16, 1)), interpolation=cv2.INTER_AREA)
    wide = cv2.resize(cv2.GaussianBlur(tiny, (0, 0), 1.8), (small.shape[1], small.shape[0]))
    halo = cv2.addWeighted(near, 0.22 * strength, wide, 0.42 * strength, 0)
    return np.asarray(
        cv2.add(image, cv2.resize(halo, (width, height), interpolation=cv2.INTER_LINEAR)), np.uint8
    )
