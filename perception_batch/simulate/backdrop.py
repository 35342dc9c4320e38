"""What lies behind and on everything: sky, clouds and stars, haze and lamp light on the ground.

The ground is taken to be the plane that the vehicle stands on: then, for one camera, how far a pixel looks along
it never changes, and the haze over it is worked out once, pixel by pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from perception_batch.geometry import SE3
from perception_batch.simulate.lens import Lens
from perception_batch.simulate.scene import IdImage, Light
from perception_batch.simulate.seen import Seen
from perception_batch.types import Image

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

_STEP_PX = 6
"""The sky is worked out for blocks of so many pixels; it is smooth."""
_CLOUD_PX = 512
"""Side of the cloud picture, which repeats."""
_CLOUD_SCALE = 95.0
"""Cloud pixels per unit of the plane on which clouds lie."""
_HEIGHTS, _GLOWS = 1024, 8192
"""Steps of the tables of the sky's colours."""
_BEAM_GAIN = 3.2
"""How much brighter than by night alone the ground is where the own headlamps shine brightest."""
_POOL_GAIN = 1.9
"""The same below a street lamp."""
_BEAM_REACH_M = 16.0
"""Distance at which the own headlamps have lost half their light."""


@dataclass(frozen=True, slots=True, eq=False)
class _GroundLight:
    """What the air and the lamps do to the ground, for one light."""

    light: Light
    """The light that it was made for."""
    keep: npt.NDArray[np.uint8]
    """(H, W) share of the ground's colour that is left, 255 = all."""
    add: Image
    """(H, W, 3) colour of the air before it."""
    beam: Image | None
    """(H, W, 3) light of the own headlamps at night, 255 at its brightest."""
    first: int
    """Row in which the ground begins."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sky:
    """Tables of the sky's colours, for one light."""

    light: Light
    """The light that they were made for."""
    by_height: Float32Array
    """(N, 3) colour by the sine of the elevation."""
    glow: Float32Array
    """(M,) share of the sun's own colour by the cosine of the angle to it."""
    warm: Float32Array
    """(3,) the sun's own colour."""
    cloud: Float32Array
    """(M, 3) colour of clouds by the cosine of the angle to the sun."""
    cloud_most: float
    """Largest share of cloud."""


class Backdrop:
    """Sky and ground light of one camera."""

    def __init__(self, lens: Lens, base_SE3_camera: SE3) -> None:
        intrinsics = lens.intrinsics
        self._hw = (intrinsics.height_px, intrinsics.width_px)
        self._base_SE3_camera = base_SE3_camera
        grid = lens.ray_grid(_STEP_PX)
        lost = np.isnan(grid[..., 0])
        self._rays_base = np.where(lost[..., None], (0.0, 0.0, 1.0), grid) @ base_SE3_camera.rotation.T
        flat = self._rays_base.reshape(-1, 3)
        self._high = np.flatnonzero(flat[:, 2] > -0.12)  # on any hill or bump, the horizon lies above this
        self._high_rays = flat[self._high].astype(np.float32)
        self._small: Image = np.zeros(self._rays_base.shape, np.uint8)
        down = -self._rays_base[..., 2]
        with np.errstate(divide="ignore"):
            reach = np.where(down > 1e-4, base_SE3_camera.translation_m[2] / np.maximum(down, 1e-4), np.inf)
        self._ground_m = np.maximum(reach, 0.0)
        """Distance along each block's ray to the ground; infinite above the horizon."""
        self._outside = self._outside_of(lens) if lost.any() else None
        self._clouds = _clouds()
        self._sky: _Sky | None = None
        self._ground: _GroundLight | None = None

    # -- sky --------------------------------------------------------------------------------------------

    def sky(self, light: Light, odom_SE3_base: SE3) -> Image:
        """(H, W, 3) sky above the horizon and the horizon's colour below."""
        if self._sky is None or self._sky.light is not light:
            self._sky = _sky_tables(light)
        tables = self._sky
        rays = self._high_rays @ odom_SE3_base.rotation.T.astype(np.float32)
        z = rays[:, 2]
        color = tables.by_height.take((z.clip(0, 1) * _HEIGHTS).astype(np.int32), axis=0)
        toward = rays @ light.sun_odom.astype(np.float32)
        level = (toward.clip(0, 1) * _GLOWS).astype(np.int32)
        color += tables.glow.take(level)[:, None] * (tables.warm - color)
        above = np.flatnonzero(z > 0.015)
        up = z.take(above)
        lift = _CLOUD_SCALE / (up + 0.12)
        x = (rays[:, 0].take(above) * lift).astype(np.int32) & (_CLOUD_PX - 1)
        y = (rays[:, 1].take(above) * lift).astype(np.int32) & (_CLOUD_PX - 1)
        cover = self._clouds.ravel().take(y * _CLOUD_PX + x) * (up * 7).clip(0, tables.cloud_most)
        cloudy = np.flatnonzero(cover)  # half of the sky is blue
        above, cover = above.take(cloudy), cover.take(cloudy)[:, None]
        clouds = tables.cloud.take(level.take(above), axis=0)
        color[above] += cover * (clouds - color.take(above, axis=0))
        small = self._small
        small[:] = light.sky_horizon
        small.reshape(-1, 3)[self._high] = color.clip(0, 255)
        size = (self._hw[1], self._hw[0])
        return np.ascontiguousarray(cv2.resize(small, size, interpolation=cv2.INTER_LINEAR), np.uint8)

    # -- ground -----------------------------------------------------------------------------------------

    def fades(self, middle: FloatArray) -> npt.NDArray[np.bool_]:
        """(F,) whether ground at these points of the optical frame lies where `light_ground` fades it."""
        at = self._base_SE3_camera.apply(middle)
        return np.asarray(at[:, 2] < 0.5 * self._base_SE3_camera.translation_m[2])

    def light_ground(
        self, image: Image, light: Light, shadow: tuple[npt.NDArray[np.uint8], tuple[int, int]] | None
    ) -> None:
        """Darken the ground by the shadows, fade it into the air with distance and, at night, let the own headlamps
        fall on it. The mask of the shadows has half the picture's size; its rows that hold any are known."""
        ground = self._light_on_ground(light)
        height, width = self._hw
        keep, first = ground.keep, ground.first
        if shadow is not None:
            mask, (top, bottom) = shadow
            top, bottom = max(2 * top - 2, 0), min(2 * bottom + 2, height)
            full = cv2.resize(255 - mask, (width, height), interpolation=cv2.INTER_LINEAR)
            first = min(first, top)
            keep = keep.copy()
            cv2.multiply(keep[top:bottom], full[top:bottom], dst=keep[top:bottom], scale=1 / 255)
        part = image[first:]
        if not len(part):
            return
        if ground.beam is not None:
            cv2.add(part, cv2.multiply(part, ground.beam[first:], scale=_BEAM_GAIN / 255), dst=part)
        keep = keep[first:]
        cv2.multiply(part, cv2.merge([keep, keep, keep]), dst=part, scale=1 / 255)
        cv2.add(part, ground.add[first:], dst=part)

    def _light_on_ground(self, light: Light) -> _GroundLight:
        if self._ground is None or self._ground.light is not light:
            self._ground = self._ground_light(light)
        return self._ground

    def _ground_light(self, light: Light) -> _GroundLight:
        keep = np.exp(-np.minimum(self._ground_m, 1e6) / light.haze_m)
        above = ~np.isfinite(self._ground_m)
        keep = np.where(above, 1.0, keep)
        add = np.where(above, 0.0, 1 - keep)[..., None] * np.array(light.sky_horizon, np.float64)
        beam = None
        if light.is_night:
            points = self._rays_base * np.where(above, 0.0, self._ground_m)[..., None]
            points = points + self._base_SE3_camera.translation_m
            light_there = np.where(above, 0.0, _beam(points.reshape(-1, 3)).reshape(above.shape))
            full = self._resized(np.repeat(light_there[..., None] * 255, 3, axis=2).astype(np.float32))
            beam = np.clip(np.round(full), 0, 255).astype(np.uint8)
        return _GroundLight(
            light,
            np.round(self._resized((keep * 255).astype(np.float32))).astype(np.uint8),
            np.round(self._resized(add.astype(np.float32))).astype(np.uint8),
            beam,
            max(0, (int(np.flatnonzero((~above).any(axis=1))[0]) - 1) * _STEP_PX)
            if not above.all()
            else self._hw[0],
        )

    def lamp_light(self, colors: FloatArray, seen: Seen, light: Light, odom_SE3_base: SE3) -> FloatArray:
        """At night, the own headlamps on what stands before them; the ground has it by pixel."""
        if not light.is_night or not len(colors):
            return colors
        at = self._base_SE3_camera.apply(seen.middle)
        normal = seen.normal_odom @ odom_SE3_base.rotation
        toward = np.array([3.7, 0.0, 0.65]) - at
        toward /= np.maximum(np.linalg.norm(toward, axis=1, keepdims=True), 1e-9)
        facing = np.clip(np.einsum("fi,fi->f", normal, toward), 0, 1)
        gain = np.where(seen.ground | seen.shines, 0.0, 0.85 * _beam(at) * facing)
        lighted: FloatArray = colors + seen.color * gain[:, None] * np.array([1.0, 0.96, 0.86])
        return lighted

    def lighten(self, image: Image, pools: npt.NDArray[np.uint8] | None, light: Light) -> None:
        """Add to the picture its own colours where lamps shine on it, less where the own headlamps will do so."""
        if pools is None:
            return
        full = cv2.resize(pools, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
        beam = self._light_on_ground(light).beam
        if beam is not None:
            full = cv2.subtract(full, np.ascontiguousarray(beam[..., 0]))
        warm = cv2.merge([full, cv2.convertScaleAbs(full, alpha=0.86), cv2.convertScaleAbs(full, alpha=0.66)])
        cv2.add(image, cv2.multiply(image, warm, scale=_POOL_GAIN / 255), dst=image)

    def mask_outside(self, image: Image, ids: IdImage) -> None:
        """Black where a fisheye's circle ends within the image."""
        if self._outside is not None:
            image[self._outside] = 0
            ids[self._outside] = 0

    # -- set-up -----------------------------------------------------------------------------------------

    def _outside_of(self, lens: Lens) -> npt.NDArray[np.bool_]:
        return np.isnan(lens.ray_grid(1)[..., 0])

    def _resized(self, small: Float32Array) -> Float32Array:
        return np.asarray(
            cv2.resize(small, (self._hw[1], self._hw[0]), interpolation=cv2.INTER_LINEAR), np.float32
        )


def _sky_tables(light: Light) -> _Sky:
    low = float(np.clip(1 - light.sun_odom[2] / 0.5, 0, 1))
    height = np.linspace(0, 1, _HEIGHTS + 1)
    toward = np.linspace(0, 1, _GLOWS + 1)
    top, horizon = np.array(light.sky_top, np.float64), np.array(light.sky_horizon, np.float64)
    by_height = horizon + (top - horizon) * np.sqrt(height)[:, None]
    if light.is_night:
        glow = np.clip((toward - 0.9993) * 4000, 0, 1) + 0.06 * toward**60
        warm = np.array([225.0, 228.0, 235.0])
        cloud = np.repeat(horizon[None] * 1.1, len(toward), axis=0)
    else:
        glow = (0.22 + 0.28 * low) * toward ** (8 - 4 * low)
        glow += np.clip((toward - 0.9985) * 900, 0, 1) + 0.55 * toward**180
        warm = np.array([255, 236 - 66 * low, 205 - 125 * low])
        white = np.array([252.0, 250.0, 248.0]) * (1 - low) + low * np.array([255.0, 190.0, 150.0])
        bright = min(1.0, 0.5 + 0.65 * light.ambient + 0.2 * light.direct)
        cloud = white * (toward[:, None] * 0.25 + 0.75) * bright
    return _Sky(
        light,
        by_height.astype(np.float32),
        glow.clip(0, 1).astype(np.float32),
        warm.astype(np.float32),
        cloud.astype(np.float32),
        0.5 if light.is_night else 1.0,
    )


def _beam(at_base: FloatArray) -> FloatArray:
    """(N,) light of the own headlamps at points of the base frame: a low beam, wide near and cut off above."""
    ahead, side, height = at_base[:, 0] - 3.7, at_base[:, 1], at_base[:, 2]
    angle = np.arctan2(np.abs(side) - 0.5, np.maximum(ahead, 1e-3)).clip(0)
    wide = np.exp(-((angle / 0.42) ** 2)) * (ahead > 0)
    near = np.clip(ahead / 3.0, 0, 1) / (1 + (np.maximum(ahead, 0) / _BEAM_REACH_M) ** 2)
    cut = 1 / (1 + np.exp((height - (0.75 + 0.012 * ahead)) * 4))
    lighted: FloatArray = wide * near * cut
    return lighted


def _clouds() -> Float32Array:
    """(S, S) share of cloud, repeating at its sides: noise of several sizes from a fixed seed."""
    rng = np.random.Generator(np.random.PCG64(20261))
    total = np.zeros((_CLOUD_PX, _CLOUD_PX), np.float32)
    for octave, weight in ((8, 1.0), (16, 0.55), (32, 0.32), (64, 0.18), (128, 0.1)):
        cells = rng.random((octave, octave)).astype(np.float32)
        wrapped = np.pad(cells, 2, mode="wrap")
        scale = _CLOUD_PX // octave
        big = cv2.resize(wrapped, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        total += weight * big[2 * scale : -2 * scale, 2 * scale : -2 * scale]
    total = (total - total.mean()) / total.std()
    cover: Float32Array = np.clip((total - 0.15) / 1.6, 0, 1) ** 0.8 * 0.85
    return cover.astype(np.float32)
