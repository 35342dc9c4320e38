"""What may be asked of a simulated drive, checked at the door. Nothing heavy is imported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from perception_batch.errors import ConfigError, printable

if TYPE_CHECKING:
    from perception_batch.calibration import Rig

Preset = Literal["surround6", "front", "fisheye4"]
Container = Literal["bag", "sqlite3", "mcap", "foxglove"]
ImageFormat = Literal["jpeg", "png", "rgb8", "bayer_rggb8", "nv12", "h264", "h265"]
TimeOfDay = Literal["day", "dusk", "night"]
InfoMode = Literal["frame", "second"]

EVEN_ONLY = ("bayer_rggb8", "nv12", "h264", "h265")
"""Image formats whose colours come in blocks of two by two pixels."""
START_NS = 1_760_000_000_123_456_789
"""True time of the first cycle; its last digits do not survive a float."""

CAMERAS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "surround6": (
            "cam_front",
            "cam_front_left",
            "cam_front_right",
            "cam_back",
            "cam_back_left",
            "cam_back_right",
        ),
        "front": ("cam_front",),
        "fisheye4": ("cam_front", "cam_left", "cam_right", "cam_back"),
    }
)
"""Names of each preset's cameras, in the order in which a staggered trigger fires them."""


@dataclass(frozen=True, slots=True)
class Jump:
    """A camera's clock is set during the drive."""

    offset_ms: float
    """What its stamps are off by afterwards."""
    at_s: float
    """Time since the first cycle."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """A camera repeats its last picture for a while."""

    start_s: float
    """Time since the first cycle of the first repeated picture."""
    length_s: float
    """How long."""


def _none() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong with time on this drive; by default nothing does.

    Where a mapping is by camera, a camera that is not in it is well.
    """

    stagger_ms: float = 0.0
    """The cameras of a cycle fire one after another, evenly; this is the last one's delay."""
    jitter_ms: float = 0.0
    """Standard deviation of each camera's trigger, cut at three of them."""
    exposure_offset_ms: Mapping[str, float] = field(default_factory=_none)
    """By camera: how long after its stamp the light falls."""
    drop: float = 0.0
    """Probability that a picture is the first of a run of lost ones."""
    drop_burst: float = 1.0
    """Mean length of such a run, pictures (geometric)."""
    duplicate: float = 0.0
    """Probability that a picture's message stands in the log twice."""
    late: float = 0.0
    """Probability that a picture's messages come late."""
    late_ms: float = 200.0
    """Largest lateness; uniform from half of it."""
    log_delay_ms: float = 5.0
    """Log time less exposure, at least."""
    log_jitter_ms: float = 0.0
    """Mean of an exponential delay of the log on top of it, cut at ten times."""
    bunch_ms: float = 0.0
    """How long the recorder stops writing, each time."""
    bunch_every_s: float = 5.0
    """How often it does."""
    clock_jump: Mapping[str, Jump] = field(default_factory=_none)
    """By camera."""
    clock_drift_ppm: Mapping[str, float] = field(default_factory=_none)
    """By camera: how fast its clock runs."""
    late_start_s: Mapping[str, float] = field(default_factory=_none)
    """By camera: when its first picture comes."""
    freeze: Mapping[str, Freeze] = field(default_factory=_none)
    """By camera."""


@dataclass(frozen=True, slots=True)
class SimulateSettings:
    """One simulated drive."""

    preset: Preset = "surround6"
    """Which cameras, see `rigs`."""
    duration_s: float = 10.0
    """Length of the drive."""
    rate_hz: float = 10.0
    """Trigger cycles a second."""
    size_px: tuple[int, int] = (960, 600)
    """Width and height of every picture of a preset."""
    rig: Rig | None = None
    """Other cameras than a preset's, with sizes of their own; `preset` and `size_px` have no say then."""
    container: Container = "mcap"
    """``bag`` (ROS 1), ``sqlite3`` and ``mcap`` (rosbag2), ``foxglove`` (MCAP with protobuf)."""
    image: ImageFormat = "jpeg"
    """How pictures stand in the log."""
    seed: int = 0
    """Of everything that is drawn by lot."""
    time_of_day: TimeOfDay = "day"
    """Light."""
    hills: bool = False
    """Whether roads climb."""
    density: float = 1.0
    """How much traffic, 0.1 to 2; 1 is usual."""
    jpeg_quality: int = 94
    """1 to 100."""
    noise: bool = True
    """Sensor noise, blur and exposure; without it pictures are as drawn."""
    low_pass: bool | None = None
    """An optical low-pass filter before each sensor; None: with ``bayer_rggb8`` only."""
    trigger_topic: bool = False
    """Also write ``/trigger``, one message a cycle."""
    camera_info: InfoMode = "frame"
    """CameraInfo with each picture, or with the first of each second."""
    ego_rate_hz: float = 50.0
    """Of ``/tf`` and ``/odom``."""
    truth_radius_m: float = 120.0
    """Objects farther from the own vehicle are not in ``objects``."""
    faults: Faults = field(default_factory=Faults)
    """What goes wrong."""

    def __post_init__(self) -> None:
        for name, kind in _CHOICES.items():
            _choice(name, getattr(self, name), get_args(kind))
        _within("--duration", self.duration_s, 0.01, 24 * 3600, "s")
        _within("--rate", self.rate_hz, 0.1, 120, "Hz")
        _within("--density", self.density, 0.1, 2, "")
        _within("--jpeg-quality", self.jpeg_quality, 1, 100, "")
        _within("--ego-rate", self.ego_rate_hz, 1, 1000, "Hz")
        _within("--truth-radius", self.truth_radius_m, 1, 1000, "m")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**63:
            raise ConfigError(
                f"--seed is {printable(self.seed)}, allowed are whole numbers from 0 to 2^63 - 1"
            )
        if self.rig is None:
            self._check_size("--size", self.size_px)
        for camera in self.rig.cameras.values() if self.rig is not None else ():
            lens = camera.intrinsics
            self._check_size(f"image size of {printable(camera.name)}", (lens.width_px, lens.height_px))
        if not self.cameras:
            raise ConfigError("--rig has no calibrated camera, one at least is needed")
        self._check_faults()

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names, in the order in which they fire."""
        return CAMERAS[self.preset] if self.rig is None else tuple(self.rig.cameras)

    @property
    def has_low_pass(self) -> bool:
        """Whether an optical low-pass filter stands before the sensors."""
        return self.image == "bayer_rggb8" if self.low_pass is None else self.low_pass

    @property
    def period_ns(self) -> int:
        """From one cycle to the next."""
        return round(1e9 / self.rate_hz)

    @property
    def cycles(self) -> int:
        """How many cycles begin in ``[0, duration)``; at least one."""
        return max(1, -(-round(self.duration_s * 1e9) // self.period_ns))

    def _check_size(self, option: str, size: tuple[int, int]) -> None:
        if len(size) != 2 or not all(isinstance(v, int) and 32 <= v <= 8192 for v in size):
            raise ConfigError(
                f"{option} is {'x'.join(map(printable, size))}, allowed are 32x32 to 8192x8192 pixels"
            )
        if not 0.25 <= size[0] / size[1] <= 8:
            raise ConfigError(
                f"{option} is {size[0]}x{size[1]}, allowed is a width over height of 0.25 to 8 (no lens covers more)"
            )
        if self.image in EVEN_ONLY and (size[0] % 2 or size[1] % 2):
            raise ConfigError(
                f"{option} is {size[0]}x{size[1]}, but {self.image} needs an even width and height; "
                f"take {size[0] + size[0] % 2}x{size[1] + size[1] % 2} or another --image"
            )

    def _check_faults(self) -> None:
        f, period_ms = self.faults, self.period_ns / 1e6
        _within("--stagger", f.stagger_ms, 0, period_ms * 0.95, "ms (less than the period)")
        # Triggers of one camera must not overtake each other, or its pictures would not be in order.
        _within("--jitter", f.jitter_ms, 0, period_ms / 8, "ms (an eighth of the period)")
        for option, value in (("--drop", f.drop), ("--duplicate", f.duplicate), ("--late", f.late)):
            _within(option, value, 0, 1, "(a probability)")
        _within("--drop-burst", f.drop_burst, 1, 1000, "pictures")
        # Longer delays would have to be kept in memory: six raw cameras are 100 MB a second.
        _within("--late-by", f.late_ms, 0, 2000, "ms")
        _within("--log-delay", f.log_delay_ms, 0, 2000, "ms")
        _within("--log-jitter", f.log_jitter_ms, 0, 100, "ms")
        _within("--bunch", f.bunch_ms, 0, 2000, "ms")
        _within("--bunch-every", f.bunch_every_s, 0.1, 3600, "s")
        if f.bunch_ms >= f.bunch_every_s * 1000:
            raise ConfigError(
                f"--bunch is {f.bunch_ms:g} ms, allowed is less than --bunch-every ({f.bunch_every_s:g} s)"
            )
        self._check_cameras("--exposure-offset", f.exposure_offset_ms)
        for value in f.exposure_offset_ms.values():
            _within("--exposure-offset", value, -period_ms / 4, period_ms / 4, "ms (a quarter of the period)")
        self._check_cameras("--clock-jump", f.clock_jump)
        for jump in f.clock_jump.values():
            _within("--clock-jump", jump.offset_ms, -1e9, 1e9, "ms")
            _within("--clock-jump ...@", jump.at_s, 0, self.duration_s, "s (within the drive)")
        self._check_cameras("--clock-drift", f.clock_drift_ppm)
        for value in f.clock_drift_ppm.values():
            _within("--clock-drift", value, -10_000, 10_000, "ppm")
        self._check_cameras("--late-start", f.late_start_s)
        for value in f.late_start_s.values():
            _within("--late-start", value, 0, self.duration_s, "s (within the drive)")
        self._check_cameras("--freeze", f.freeze)
        for freeze in f.freeze.values():
            _within("--freeze", freeze.start_s, 0, self.duration_s, "s (within the drive)")
            _within("--freeze ...+", freeze.length_s, 0, 24 * 3600, "s")

    def _check_cameras(self, option: str, mapping: Mapping[str, Any]) -> None:
        for name in mapping:
            if name not in self.cameras:
                raise ConfigError(
                    f"{option}: {printable(name)} is no camera of {self.preset if self.rig is None else 'the rig'}; "
                    f"these are {', '.join(map(printable, self.cameras))}"
                )

    def to_dict(self) -> dict[str, Any]:
        """As in ``meta.json``."""
        out = {f.name: getattr(self, f.name) for f in fields(self)}
        out["size_px"] = list(self.size_px)
        del out["rig"]  # meta.json has it in full
        faults: dict[str, Any] = {f.name: getattr(self.faults, f.name) for f in fields(self.faults)}
        faults["clock_jump"] = {
            k: {"offset_ms": v.offset_ms, "at_s": v.at_s} for k, v in self.faults.clock_jump.items()
        }
        faults["freeze"] = {
            k: {"start_s": v.start_s, "length_s": v.length_s} for k, v in self.faults.freeze.items()
        }
        for name in ("exposure_offset_ms", "clock_drift_ppm", "late_start_s"):
            faults[name] = dict(faults[name])
        out["faults"] = faults
        return out


_CHOICES = {
    "preset": Preset,
    "container": Container,
    "image": ImageFormat,
    "time_of_day": TimeOfDay,
    "camera_info": InfoMode,
}


def _choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        option = {"container": "format"}.get(name, name).replace("_", "-")
        raise ConfigError(f"--{option} is {printable(value)}, allowed are {', '.join(allowed)}")


def _within(option: str, value: float, low: float, high: float, unit: str) -> None:
    if not (isinstance(value, (int, float)) and math.isfinite(value) and low <= value <= high):
        shown = f"{value:g}" if isinstance(value, (int, float)) else printable(value)
        raise ConfigError(f"{option} is {shown}, allowed is {low:g} to {high:g} {unit}".rstrip())
