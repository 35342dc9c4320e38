"""The words of ``perception-batch simulate``. Only argparse is imported at the top: ``--help`` is instant."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from perception_batch.simulate.settings import SimulateSettings

EXAMPLE = "example: perception-batch simulate drive1 --duration 20 --format bag --drop 0.02 --clock-jump cam_back=-50@8"

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All options of the command."""
    parser.add_argument("out", type=Path, metavar="OUT", help="new folder for the log and its truth")
    add = parser.add_argument_group("the drive").add_argument
    add("--preset", default="surround6", metavar="NAME", help="surround6 (default), front or fisheye4")
    add("--rig", type=Path, metavar="FILE", help="cameras of a rig file (ours: inspect --write-rig) instead")
    add("--duration", type=float, default=10.0, metavar="S", help="seconds (10)")
    add("--rate", type=float, default=10.0, metavar="HZ", help="pictures a second of each camera (10)")
    add("--size", default="960x600", metavar="WxH", help="of every picture (960x600)")
    add("--seed", type=int, default=0, metavar="N", help="the same seed gives the same bytes (0)")
    add("--time-of-day", default="day", metavar="T", help="day (default), dusk or night")
    add("--hills", action="store_true", help="roads climb")
    add("--density", type=float, default=1.0, metavar="X", help="how much traffic, 0.1 to 2 (1)")
    add = parser.add_argument_group("the log").add_argument
    add("--format", default="mcap", metavar="F", help="bag, sqlite3, mcap (default) or foxglove")
    add(
        "--image",
        default="jpeg",
        metavar="I",
        help="jpeg (default), png, rgb8, bayer_rggb8, nv12, h264, h265",
    )
    add("--jpeg-quality", type=int, default=94, metavar="Q", help="1 to 100 (94)")
    add("--no-noise", action="store_true", help="pictures without a sensor's noise, blur and exposure")
    add(
        "--low-pass",
        action=argparse.BooleanOptionalAction,
        help="an optical low-pass filter before each sensor (as cameras with a Bayer filter have it: with bayer_rggb8)",
    )
    add("--trigger", action="store_true", help="also a topic of trigger stamps")
    add("--camera-info", default="frame", metavar="WHEN", help="with each frame (default) or each second")
    add("--ego-rate", type=float, default=50.0, metavar="HZ", help="of /tf and /odom (50)")
    add(
        "--truth-radius", type=float, default=120.0, metavar="M", help="objects in the truth lie within (120)"
    )
    _add_faults(parser.add_argument_group("faults (CAMERA=... may be repeated; without CAMERA: all)"))
    add = parser.add_argument_group("damage (a damaged copy goes to OUT/damaged)").add_argument
    add("--flip-bits", type=int, default=0, metavar="N", help="flip N bits of the log")
    add("--truncate", type=float, metavar="FRACTION", help="keep only this share of the log's bytes")
    add("--no-index", action="store_true", help="without index, as after a crash of the recorder")


def _add_faults(group: Any) -> None:
    add = group.add_argument
    add("--stagger", type=float, default=0.0, metavar="MS", help="cameras fire one after another within")
    add("--jitter", type=float, default=0.0, metavar="MS", help="standard deviation of each trigger")
    add("--exposure-offset", action="append", default=[], metavar="[CAMERA=]MS", help="light less stamp")
    add("--drop", type=float, default=0.0, metavar="P", help="probability that a picture is lost")
    add("--drop-burst", type=float, default=1.0, metavar="N", help="mean run of lost pictures (1)")
    add("--duplicate", type=float, default=0.0, metavar="P", help="probability of a message twice")
    add("--late", type=float, default=0.0, metavar="P", help="probability of a late message")
    add("--late-by", type=float, default=200.0, metavar="MS", help="how late at most (200)")
    add("--log-delay", type=float, default=5.0, metavar="MS", help="log time less exposure, at least (5)")
    add("--log-jitter", type=float, default=0.0, metavar="MS", help="mean of its random part")
    add("--bunch", type=float, default=0.0, metavar="MS", help="the recorder stops that long at a time")
    add("--bunch-every", type=float, default=5.0, metavar="S", help="how often it does (5)")
    add("--clock-jump", action="append", default=[], metavar="[CAMERA=]MS@S", help="its clock is set")
    add("--clock-drift", action="append", default=[], metavar="[CAMERA=]PPM", help="its clock runs fast")
    add("--late-start", action="append", default=[], metavar="[CAMERA=]S", help="its first picture")
    add(
        "--freeze", action="append", default=[], metavar="[CAMERA=]S+S", help="repeats its picture from + for"
    )


def settings_of(arguments: argparse.Namespace) -> SimulateSettings:
    """The settings that the words ask for.

    Raises:
        ConfigError: an option makes no sense; says what is allowed.
    """
    from perception_batch.errors import ConfigError, printable
    from perception_batch.simulate.settings import CAMERAS, Faults, Freeze, Jump, SimulateSettings

    a = arguments
    rig = _rig(a.rig) if a.rig is not None else None
    if rig is None and a.preset not in CAMERAS:
        raise ConfigError(f"--preset is {printable(a.preset)}, allowed are {', '.join(CAMERAS)}")
    cameras = tuple(rig.cameras) if rig is not None else CAMERAS[a.preset]

    def by_camera(option: str, words: list[str], form: str, parse: Callable[[str], T]) -> dict[str, T]:
        out: dict[str, T] = {}
        for word in words:
            name, equals, value = word.rpartition("=")
            try:
                parsed = parse(value)
            except ValueError:
                raise ConfigError(f"{option} is {printable(word)}, allowed is [CAMERA=]{form}") from None
            out.update(dict.fromkeys([name] if equals else cameras, parsed))
        return out

    def pair(text: str, mark: str) -> tuple[float, float]:
        first, second = text.split(mark)
        return float(first), float(second)

    faults = Faults(
        stagger_ms=a.stagger,
        jitter_ms=a.jitter,
        exposure_offset_ms=by_camera("--exposure-offset", a.exposure_offset, "MS", float),
        drop=a.drop,
        drop_burst=a.drop_burst,
        duplicate=a.duplicate,
        late=a.late,
        late_ms=a.late_by,
        log_delay_ms=a.log_delay,
        log_jitter_ms=a.log_jitter,
        bunch_ms=a.bunch,
        bunch_every_s=a.bunch_every,
        clock_jump=by_camera("--clock-jump", a.clock_jump, "MS@S", lambda t: Jump(*pair(t, "@"))),
        clock_drift_ppm=by_camera("--clock-drift", a.clock_drift, "PPM", float),
        late_start_s=by_camera("--late-start", a.late_start, "S", float),
        freeze=by_camera("--freeze", a.freeze, "START+LENGTH in seconds", lambda t: Freeze(*pair(t, "+"))),
    )
    return SimulateSettings(
        preset=a.preset,
        duration_s=a.duration,
        rate_hz=a.rate,
        size_px=_size(a.size),
        rig=rig,
        container=a.format,
        image=a.image,
        seed=a.seed,
        time_of_day=a.time_of_day,
        hills=a.hills,
        density=a.density,
        jpeg_quality=a.jpeg_quality,
        noise=not a.no_noise,
        low_pass=a.low_pass,
        trigger_topic=a.trigger,
        camera_info=a.camera_info,
        ego_rate_hz=a.ego_rate,
        truth_radius_m=a.truth_radius,
        faults=faults,
    )


def _size(text: str) -> tuple[int, int]:
    from perception_batch.errors import ConfigError, printable

    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise ConfigError(f"--size is {printable(text)}, allowed is WxH such as 960x600") from None
    return width, height


def _rig(path: Path) -> Any:
    import yaml

    from perception_batch.calibration import Rig
    from perception_batch.errors import ConfigError, printable

    try:
        data = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"--rig {printable(path)} is no YAML: {printable(error)}") from None
    if not isinstance(data, dict) or not isinstance(data.get("cameras"), dict):
        raise ConfigError(f"--rig {printable(path)} has no mapping `cameras`; inspect --write-rig writes one")
    return Rig.from_dict(data)


def run_command(arguments: argparse.Namespace) -> int:
    """Do what the words ask for; the exit status is that of the contract.

    Raises:
        PerceptionBatchError: with the exit status of its kind.
    """
    import sys

    from perception_batch.errors import EXIT_OK
    from perception_batch.simulate.damage import Damage, damage_log
    from perception_batch.simulate.drive import TRUTH_NAME, simulate

    settings = settings_of(arguments)
    damage = Damage(
        flip_bits=arguments.flip_bits,
        keep=1.0 if arguments.truncate is None else arguments.truncate,
        drop_index=arguments.no_index,
        seed=settings.seed,
    )
    shown = _Progress() if sys.stderr.isatty() else None
    try:
        log = simulate(arguments.out, settings, shown)
    finally:
        if shown is not None:
            shown.close()
    say = sys.stdout.write
    say(f"{log}\n{arguments.out / TRUTH_NAME}\n")
    if damage.does_something:
        say(f"{damage_log(log, arguments.out / 'damaged', damage).log}\n")
    return EXIT_OK


class _Progress:
    """A bar on the terminal."""

    def __init__(self) -> None:
        from rich.progress import Progress

        self._bar = Progress(transient=True)
        self._bar.start()
        self._task = self._bar.add_task("drawing", total=None)

    def __call__(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)

    def close(self) -> None:
        """Take it away."""
        self._bar.stop()
