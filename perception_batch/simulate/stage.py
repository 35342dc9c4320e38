"""Who builds the world and the cameras' eyes: the real ones, or simpler ones that a test brings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from perception_batch.calibration import Camera
from perception_batch.simulate.scene import Drawing, Light, World
from perception_batch.simulate.settings import SimulateSettings
from perception_batch.types import Image

if TYPE_CHECKING:
    from perception_batch.simulate.sensor import Sensor


class DrawsPictures(Protocol):
    """One camera's drawer."""

    def draw(self, world: World, time_s: float) -> Drawing:
        """What the camera sees."""


class ExposesPictures(Protocol):
    """One camera's sensor."""

    def expose(self, image: Image, frame_index: int) -> Image:
        """The drawn picture as the sensor gives it; chance depends on the frame's number alone."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Builders of what is drawn."""

    world: Callable[[SimulateSettings, float], World]
    """From the settings and the length in seconds that is needed."""
    drawer: Callable[[Camera], DrawsPictures]
    """For one camera."""
    sensor: Callable[[SimulateSettings, str, World], ExposesPictures]
    """For one camera, by its name."""


class _Ideal:
    """A sensor that takes the picture as it is drawn."""

    def expose(self, image: Image, frame_index: int) -> Image:  # noqa: ARG002
        """The picture itself."""
        return image


class _UnderLight:
    """The real sensor, which sees by the world's light."""

    def __init__(self, sensor: Sensor, light: Light) -> None:
        self._sensor, self._light = sensor, light

    def expose(self, image: Image, frame_index: int) -> Image:
        """The picture with noise, blur, exposure and, at night, glare."""
        return self._sensor.expose(image, frame_index, self._light)


class _BehindLowPass:
    """A sensor behind an optical low-pass filter."""

    def __init__(self, sensor: ExposesPictures) -> None:
        self._sensor = sensor

    def expose(self, image: Image, frame_index: int) -> Image:
        """What the sensor makes of the filtered picture."""
        from perception_batch.simulate.sensor import low_passed

        return self._sensor.expose(low_passed(image), frame_index)


def real_stage() -> Stage:
    """The world, drawer and sensor of this package."""
    from perception_batch.simulate.draw import Drawer
    from perception_batch.simulate.gather import ShapeCache
    from perception_batch.simulate.own_vehicle import own_vehicle_mesh
    from perception_batch.simulate.sensor import Sensor
    from perception_batch.simulate.world import build_world

    shapes = ShapeCache()  # of this drive: all its cameras see the same meshes

    def world(settings: SimulateSettings, length_s: float) -> World:
        return build_world(
            settings.seed,
            duration_s=length_s,
            time_of_day=settings.time_of_day,
            hills=settings.hills,
            density=settings.density,
        )

    def drawer(camera: Camera) -> DrawsPictures:
        return Drawer(camera, own_vehicle=own_vehicle_mesh(), shapes=shapes)

    def sensor(settings: SimulateSettings, camera: str, world: World) -> ExposesPictures:
        sensor: ExposesPictures = (
            _UnderLight(Sensor(settings.seed, camera), world.light) if settings.noise else _Ideal()
        )
        return _BehindLowPass(sensor) if settings.has_low_pass else sensor

    return Stage(world, drawer, sensor)
