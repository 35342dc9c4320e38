"""Ties it together: the world is drawn as the plan says, encoded, written to the log, and told to the truth.

Pictures are drawn in the order of their exposure, one at a time; messages wait only until nothing earlier can come
any more. Memory therefore holds a few seconds at most, whatever the length of the drive.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from perception_batch.calibration import Camera, Rig
from perception_batch.errors import EXIT_RETRY, WriteError, printable
from perception_batch.simulate.encode import Encoder, Picture, open_encoder
from perception_batch.simulate.log_file import LogFile, Message
from perception_batch.simulate.rigs import rig_of
from perception_batch.simulate.scene import Drawing
from perception_batch.simulate.settings import START_NS, SimulateSettings
from perception_batch.simulate.stage import DrawsPictures, ExposesPictures, Stage, real_stage
from perception_batch.simulate.stopwatch import Stopwatch
from perception_batch.simulate.timing import Cycle, LogOrder, Recorder, Shot, earliest_log_ns, plan
from perception_batch.simulate.truth import TruthWriter, seen_from
from perception_batch.types import Image

LOG_NAME = "drive"
TRUTH_NAME = "truth"
PARTIAL_SUFFIX = ".partial"

_SEEN_RADIUS_M = 160.0
"""Where the objects of a picture are looked for first: as far as the drawer looks."""
_MOTION_DELAY_NS = 2_000_000
"""Log time less stamp of ``/tf`` and ``/odom``."""


def simulate(
    out: Path,
    settings: SimulateSettings,
    progress: Callable[[int, int], None] | None = None,
    *,
    stage: Stage | None = None,
    watch: Stopwatch | None = None,
) -> Path:
    """Draw a drive, write it as a log into the new folder `out`, and its truth into ``out/truth``.

    Args:
        out: the folder; it must not exist.
        settings: what to draw.
        progress: called with the cycles done and their number.
        stage: other builders of world, drawer and sensor.
        watch: is told the stages: world (building it), draw, sensor, encode, truth, write.

    Returns:
        The log: ``drive.bag``, the folder ``drive`` or ``drive.mcap`` within `out`.

    Raises:
        ConfigError: the settings are impossible.
        WriteError: `out` exists, or the disk is full or refuses.
    """
    rig = rig_of(settings)
    partial = out.with_name(out.name + PARTIAL_SUFFIX)
    for path in (out, partial):
        if path.exists() or path.is_symlink():
            left = " (left by a run that was stopped)" if path == partial else ""
            raise WriteError(f"{printable(path)} exists{left}; remove it or choose another OUT")
    with _disk_errors(out):
        partial.mkdir(parents=True)
    try:
        with _disk_errors(out):
            log = _write(partial, settings, rig, stage or real_stage(), progress, watch or Stopwatch())
            partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return out / log.name


def _write(
    folder: Path,
    settings: SimulateSettings,
    rig: Rig,
    stage: Stage,
    progress: Callable[[int, int], None] | None,
    watch: Stopwatch,
) -> Path:
    with watch.stage("write"):
        log = _open_log(folder, settings)
    truth: TruthWriter | None = None
    try:
        with watch.stage("truth"):
            truth = TruthWriter(folder / TRUTH_NAME, START_NS)
        drive = _Drive(settings, rig, stage, log, truth, watch)
        for done, cycle in enumerate(plan(settings), start=1):
            drive.cycle(cycle)
            if progress is not None:
                progress(done, settings.cycles)
        drive.finish()
        with watch.stage("write"):
            log.close()
        with watch.stage("truth"):
            truth.close(_meta(settings, rig, log.path.name, drive))
    except BaseException:
        with contextlib.suppress(Exception):
            log.abort()
        if truth is not None:
            with contextlib.suppress(Exception):
                truth.abort()
        raise
    return log.path


@dataclass(slots=True)
class _Eye:
    """One camera at work."""

    camera: Camera
    drawer: DrawsPictures
    sensor: ExposesPictures
    encoder: Encoder
    info_second: int = -1
    image: Image | None = None
    picture: Picture | None = None
    drawing: Drawing | None = None
    seen: dict[int, tuple[str, float]] | None = None


class _Drive:
    """What happens in each cycle."""

    def __init__(
        self,
        settings: SimulateSettings,
        rig: Rig,
        stage: Stage,
        log: LogFile,
        truth: TruthWriter,
        watch: Stopwatch,
    ) -> None:
        self._settings, self._rig, self._log, self._truth = settings, rig, log, truth
        self._watch = watch
        self._lead_ns = settings.period_ns + 200_000_000
        self._world_start_ns = START_NS - self._lead_ns - 300_000_000
        whole_ns = settings.cycles * settings.period_ns + 2 * (START_NS - self._world_start_ns)
        with watch.stage("world"):
            self._world = stage.world(settings, whole_ns / 1e9)
        self._eyes = {
            camera.name: _Eye(
                camera,
                stage.drawer(camera),
                stage.sensor(settings, camera.name, self._world),
                open_encoder(
                    settings.image,
                    (camera.intrinsics.width_px, camera.intrinsics.height_px),
                    settings.rate_hz,
                    settings.jpeg_quality,
                ),
            )
            for camera in rig.cameras.values()
        }
        self._order: LogOrder[Message] = LogOrder()
        self._recorder = Recorder.of(settings.faults)
        self._motion = self._motions()
        self._motion_ns = next(self._motion)
        self.counts: Counter[str] = Counter()
        self.topics: Counter[str] = Counter()
        static_ns = START_NS - self._lead_ns
        self._add(static_ns, log.mounts(rig, static_ns))

    def cycle(self, cycle: Cycle) -> None:
        """Draw, encode and write what one cycle brings."""
        with self._watch.stage("truth"):
            self._truth.add_cycle(cycle)
            time_s = self._time_s(cycle.cycle_ns)
            things = self._world.things(time_s, self._settings.truth_radius_m)
            self._truth.add_scene(cycle, self._world.ego(time_s), things)
        self._move_until(cycle.cycle_ns + self._settings.period_ns)
        if self._settings.trigger_topic:
            self._add(self._recorder.log_ns(cycle.cycle_ns), self._log.trigger(cycle.cycle_ns))
        for shot in cycle.shots:
            self.counts[shot.status] += 1
            if shot.messages:
                self._shoot(cycle, shot)
        self._put_until(earliest_log_ns(self._settings, cycle.cycle_ns))

    def finish(self) -> None:
        """Write what still waits."""
        last_ns = START_NS + self._settings.cycles * self._settings.period_ns
        self._move_until(last_ns + self._lead_ns)
        self._put_until(2**62)

    def _shoot(self, cycle: Cycle, shot: Shot) -> None:
        eye = self._eyes[shot.camera]
        picture = self._repeat(eye) if shot.status == "frozen" else self._draw(eye, cycle, shot)
        if eye.drawing is not None and eye.seen is not None:
            with self._watch.stage("truth"):
                self._truth.add_boxes(cycle, shot, eye.drawing, eye.seen)
        with self._watch.stage("write"):
            self._add_picture(eye, shot, picture)

    def _add_picture(self, eye: _Eye, shot: Shot, picture: Picture) -> None:
        """Its messages wait to be written."""
        second = (shot.true_ns - START_NS) // 10**9
        if self._settings.camera_info == "frame" or second != eye.info_second:
            eye.info_second = second
            self._add(shot.log_ns, self._log.calibration(eye.camera, shot.stamp_ns))
        message = self._log.picture(shot.camera, shot.stamp_ns, picture)
        self._add(shot.log_ns, message)
        if shot.duplicate_log_ns:
            self._add(shot.duplicate_log_ns, message)

    def _draw(self, eye: _Eye, cycle: Cycle, shot: Shot) -> Picture:
        time_s = self._time_s(shot.true_ns)
        with self._watch.stage("draw"):
            drawing = eye.drawer.draw(self._world, time_s)
        with self._watch.stage("sensor"):
            eye.image = eye.sensor.expose(drawing.image, cycle.index)
        with self._watch.stage("encode"):
            eye.picture = eye.encoder.encode(eye.image)
        with self._watch.stage("truth"):
            eye.seen = self._seen(eye.camera, drawing, time_s)
        eye.drawing = drawing
        return eye.picture

    def _seen(self, camera: Camera, drawing: Drawing, time_s: float) -> dict[int, tuple[str, float]]:
        """Label and distance of all that a picture shows."""
        radius_m, shown = _SEEN_RADIUS_M, drawing.amodal_px
        while True:
            things = [t for t in self._world.things(time_s, radius_m) if t.object_id in shown]
            if len(things) >= len(shown) or radius_m >= 1e6:
                return seen_from(camera, self._world.ego(time_s), things)
            radius_m *= 4  # the drawer looks farther

    def _repeat(self, eye: _Eye) -> Picture:
        """The same bytes again; a video encoder that gets the same picture again sends another packet."""
        if eye.picture is None or eye.image is None:
            raise RuntimeError("a picture is repeated before there is one")  # the plan never does
        return eye.encoder.encode(eye.image) if eye.picture.family == "video" else eye.picture

    def _motions(self) -> Iterator[int]:
        """Stamps of ``/tf`` and ``/odom``, from before the first picture to after the last."""
        number = 0
        while True:
            yield START_NS - self._lead_ns + round(number * 1e9 / self._settings.ego_rate_hz)
            number += 1

    def _move_until(self, stop_ns: int) -> None:
        with self._watch.stage("write"):
            self._add_motion_until(stop_ns)

    def _add_motion_until(self, stop_ns: int) -> None:
        while self._motion_ns < stop_ns:
            ego = self._world.ego(self._time_s(self._motion_ns))
            log_ns = self._recorder.log_ns(self._motion_ns + _MOTION_DELAY_NS)
            for message in self._log.motion(self._motion_ns, ego, self._rig.base_frame):
                self._add(log_ns, message)
            self._motion_ns = next(self._motion)

    def _add(self, log_ns: int, message: Message) -> None:
        self.topics[message.topic] += 1
        self._order.add(log_ns, message)

    def _put_until(self, horizon_ns: int) -> None:
        with self._watch.stage("write"):
            for log_ns, message in self._order.until(horizon_ns):
                self._log.write(log_ns, message)

    def _time_s(self, true_ns: int) -> float:
        """The world's time."""
        return (true_ns - self._world_start_ns) / 1e9


def _open_log(folder: Path, settings: SimulateSettings) -> LogFile:
    if settings.container == "bag":
        from perception_batch.simulate.log_bag import BagLog

        return BagLog(folder / f"{LOG_NAME}.bag")
    if settings.container == "foxglove":
        from perception_batch.simulate.log_foxglove import FoxgloveLog

        return FoxgloveLog(folder / f"{LOG_NAME}.mcap")
    from perception_batch.simulate.log_ros2 import Ros2Log

    return Ros2Log(folder / LOG_NAME, settings.container)


def _meta(settings: SimulateSettings, rig: Rig, log_name: str, drive: _Drive) -> dict[str, Any]:
    from perception_batch import __version__

    packages = ["numpy", "opencv-python", "rosbags", "av", "pyarrow", "mcap", "protobuf"]
    versions = {"perception_batch": __version__}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {
        "seed": settings.seed,
        "options": settings.to_dict(),
        "cameras": list(rig.cameras),
        "rig": rig.to_dict(),
        "truth_radius_m": settings.truth_radius_m,
        "start_ns": START_NS,
        "period_ns": settings.period_ns,
        "cycles": settings.cycles,
        "counts": dict(sorted(drive.counts.items())),
        "messages": dict(sorted(drive.topics.items())),
        "log": log_name,
        "versions": versions,
    }


@contextlib.contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    """A full or refusing disk, in words; other errors pass as they are."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise WriteError(
            f"{printable(out)}: {error}; free some space and start again", exit_status=EXIT_RETRY
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WriteError(
                f"{printable(out)}: the disk is full ({os.strerror(error.errno)}); free some space and start the "
                "same command again",
                exit_status=EXIT_RETRY,
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR):
            raise WriteError(
                f"{printable(out)}: cannot write here ({os.strerror(error.errno)}); choose another OUT"
            ) from error
        raise
