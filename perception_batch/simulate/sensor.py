"""What a camera's optics and sensor do to a drawn picture: glare, blur, vignette, exposure, noise.

Noise follows the usual model, variance = read noise squared + gain times signal (Janesick, Photon Transfer,
2007). Its normals are drawn once for a camera; each picture takes them from another place, turned over at random:
drawing them afresh would cost more than drawing the scene.
"""

from __future__ import annotations

import zlib

import cv2
import numpy as np
import numpy.typing as npt

from perception_batch.simulate.scene import Light
from perception_batch.types import Image

Int16Array = npt.NDArray[np.int16]

_SPARE_PX = 160
"""The sheet of noise is larger than the picture by this much on both sides."""
_READ_DN, _SHOT_DN = 1.1, 0.028
"""Read noise, in steps of 0..255, and variance per step of signal, of a camera by day."""
_NIGHT_GAIN = 3.2
"""By night the sensor's gain is up: noise deviates so much more."""
_SCALE = 64
"""Normals are kept as whole numbers, this times larger."""


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
        out = _with_glare(image, self._glare) if night and self._glare > 0 else image
        if self._blur_px > 0.05:
            out = cv2.GaussianBlur(out, (3, 3) if self._blur_px < 0.9 else (0, 0), self._blur_px)
        if self._vignette > 0:
            out = cv2.multiply(out, self._falloff_for(out), scale=1 / 255)
        gain = float(np.exp(self._jitter * np.clip(rng.standard_normal(), -3, 3)))
        level = np.arange(256, dtype=np.float64)
        # A soft shoulder: what would be over the top is squeezed into the last steps.
        exposed = level * gain
        exposed = np.where(exposed > 225, 225 + 30 * (1 - np.exp(-(exposed - 225) / 30)), exposed)
        out = cv2.LUT(out, np.clip(np.round(exposed), 0, 255).astype(np.uint8))
        if self._noise > 0:
            out = self._with_noise(
                np.asarray(out, np.uint8), rng, self._noise * (_NIGHT_GAIN if night else 1.0)
            )
        return np.ascontiguousarray(out, np.uint8)

    def _with_noise(self, image: Image, rng: np.random.Generator, factor: float) -> Image:
        height, width = image.shape[:2]
        sheet = self._sheet_for(height, width)
        y, x = (int(v) for v in rng.integers(0, _SPARE_PX, 2))
        normals = sheet[y : y + height, x : x + width]
        turned = int(rng.integers(0, 4))
        normals = np.ascontiguousarray(normals) if turned == 3 else cv2.flip(normals, turned - 1)
        level = np.arange(256, dtype=np.float64)
        sigma = factor * np.sqrt(_READ_DN**2 + _SHOT_DN * level)
        # All in whole numbers of one type: OpenCV is several times slower where types are mixed.
        wide = cv2.LUT(image, np.round(16 * sigma).astype(np.int16))
        noise = cv2.multiply(normals, wide, scale=1 / (16 * _SCALE))
        return np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), np.uint8)

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
