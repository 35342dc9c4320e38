"""What the rest of the program may ask of a log, whatever its container."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from perception_batch.calibration import Rig
from perception_batch.read.images.topics import CameraTopic, TopicInfo
from perception_batch.types import LogItem, Loss

if TYPE_CHECKING:
    from perception_batch.read.rigs.drive_calibration import DriveCalibration


@dataclass(frozen=True, slots=True)
class CameraHead:
    """What the first seconds of a log tell of one camera."""

    clock: Literal["header", "publish", "log"]
    """Which time its frames carry: the header's stamp, the time of publishing, or the recorder's."""
    skew_ns: int
    """Median of log time less stamp, ns; 0 with the clock ``log``."""
    stamps_ns: tuple[tuple[int, int], ...]
    """(stamp_ns, log_ns) of every frame seen whose stamp is plausible, in log order."""
    frame_id: str
    """Optical frame, from the first image; empty where none was seen."""
    encoding: str
    """Of the first image that can be read; ``unknown`` where none can."""
    width_px: int
    """Of the same image; 0 where unknown."""
    height_px: int
    """Of the same image; 0 where unknown."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first seconds of a log."""

    cameras: Mapping[str, CameraHead]
    """By name, for every selected camera."""
    first_stamp_ns: int
    """The first plausible stamp of a selected camera: second 0 of the drive. The first log time without any."""
    stop_ns: int
    """Log time of the last message looked at."""
    complete: bool
    """True where the whole log was looked at."""
    triggers_ns: tuple[tuple[int, int], ...] = ()
    """(stamp_ns, log_ns) of the trigger topic's messages; empty where none was named."""


class FrameSource(Protocol):
    """A drive's log. Implemented by `DriveLog`."""

    paths: tuple[Path, ...]
    """What the user named."""

    @property
    def topics(self) -> tuple[TopicInfo, ...]:
        """Every topic, by name."""
        ...

    @property
    def cameras(self) -> Mapping[str, CameraTopic]:
        """Every camera, by name, enabled or not."""
        ...

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What is known to be lost; grows while streaming."""
        ...

    @property
    def lidar_topic(self) -> str | None:
        """The topic of the lidar that `stream` can give; None without one."""
        ...

    @property
    def calibration(self) -> DriveCalibration:
        """What `stream` follows of lenses and mounts that change."""
        ...

    def select(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """The enabled cameras, or those named, sorted."""
        ...

    def head(self, selected: Sequence[str]) -> Head:
        """Look at the first seconds, once; `stream` replays them."""
        ...

    def rig(self, selected: Sequence[str], rig_file: Path | None, base_frame: str) -> Rig:
        """Calibration of the selected cameras."""
        ...

    def stream(
        self,
        selected: Sequence[str],
        start_ns: int | None = None,
        stop_ns: int | None = None,
        *,
        warm_up: bool = False,
        sweeps: bool = False,
    ) -> Iterator[LogItem]:
        """Frames with start_ns <= stamp < stop_ns and the poses and triggers around them, in log-time order.

        With `warm_up`, also what a video's decoder needs before `start_ns`; with `sweeps`, a lidar's point clouds.
        """
        ...

    def fingerprint(self) -> str:
        """Identity of the log's content."""
        ...

    def close(self) -> None:
        """Release the files."""
        ...
