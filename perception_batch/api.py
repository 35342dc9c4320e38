"""What Python programs call: `run`, `inspect`, `fuse`, `load_run`, `open_log`. The package re-exports it lazily."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_batch.config import RunConfig, load_config
from perception_batch.errors import ConfigError, LogError, WriteError, printable
from perception_batch.job import Job, Progress
from perception_batch.pipeline import run_drive
from perception_batch.read import DriveLog, holds_pictures
from perception_batch.read import open_log as _open_log
from perception_batch.replay import fuse_again, load_finished, redo
from perception_batch.runs import OutputUrl, find_drives, refuse_url
from perception_batch.write import Manifest, read_timesteps

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Run", "fuse", "inspect", "load_config", "load_run", "open_log", "run"]


@dataclass(frozen=True)
class Run:
    """A finished run; tables are read when asked for, once. Columns and units: `docs/formats.md`."""

    directory: Path
    """``OUT/<drive>``."""
    manifest: Manifest
    """``run.json``."""

    @cached_property
    def detections(self) -> pa.Table:
        """Every box kept."""
        return self._table("detections")

    @cached_property
    def objects(self) -> pa.Table:
        """Fused objects."""
        return self._table("objects")

    @cached_property
    def observations(self) -> pa.Table:
        """What fusion made of each box."""
        return self._table("observations")

    @cached_property
    def tracks(self) -> pa.Table:
        """Objects over time."""
        return self._table("tracks")

    @cached_property
    def frames(self) -> pa.Table:
        """What became of every camera frame of the log."""
        return self._table("frames")

    @cached_property
    def ego(self) -> pa.Table:
        """The vehicle's motion."""
        return self._table("ego")

    def timesteps(self) -> Iterator[dict[str, Any]]:
        """The lines of ``timesteps.jsonl``, one mapping each.

        Raises:
            LogError: the run wrote none (``write.timesteps: none``), or the file is damaged.
        """
        for name in ("timesteps.jsonl", "timesteps.jsonl.zst"):
            if (self.directory / name).exists():
                return read_timesteps(self.directory / name)
        raise LogError(self.directory, "has no timesteps.jsonl: the run was made with write.timesteps=none")

    def _table(self, name: str) -> pa.Table:
        import pyarrow.parquet as pq

        path = self.directory / f"{name}.parquet"
        if not path.exists():
            raise LogError(path, "is missing; run the drive again with --overwrite")
        return pq.read_table(path)


def open_log(log: str | Path | Sequence[str | Path], config: RunConfig | None = None) -> DriveLog:
    """Open the log of one drive: a file, a bag folder, or its split files. Use it as a context manager.

    Raises:
        LogError: nothing readable.
    """
    config = config or RunConfig()
    return _open_log(_paths(log), config.read, config.cameras)


def run(
    log: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    model: str | Path | None = None,
    config: RunConfig | None = None,
    cameras: Sequence[str] | None = None,
    start: str | None = None,
    stop: str | None = None,
    events: str | Path | None = None,
    rig: str | Path | None = None,
    drive: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Process one drive, as `perception-batch run` does, and give what it left.

    Args:
        log: a file, a bag folder, or the split files of one drive.
        out: results go to ``out/<drive>``.
        model: weights; wins over the config's `detect.model`.
        config: settings, from `load_config`; default: the defaults.
        cameras: only these.
        start: first time used: seconds from the first stamp, ISO-8601 UTC, or ns, as text.
        stop: first time not used any more.
        events: CSV file with the columns stamp (as `start`), before_s, after_s; only timesteps about these are used.
        rig: calibration file that wins over the log's.
        drive: name of the drive; default: the file's stem or the bag's folder.
        overwrite: replace what an earlier run with other settings left.
        progress: hears of each timestep.

    Raises:
        PerceptionBatchError: any of the tree in `perception_batch.errors`.
    """
    paths = _paths(log)
    found = find_drives(paths, one_drive=len(paths) > 1, holds_pictures=holds_pictures)
    if len(found) != 1:
        raise WriteError(f"{paths[0]} holds {len(found)} drives; call `run` for each, or name one log")
    if OutputUrl.parse(str(out)) is not None:
        raise ConfigError(
            f"`run` from Python writes to a folder; use `perception-batch run --out {printable(out)}`"
        )
    settings = config or RunConfig()
    if model is not None:
        settings = settings.model_copy(
            update={"detect": settings.detect.model_copy(update={"model": str(model)})}
        )
    outcome = run_drive(
        Job(
            drive or found[0].name,
            found[0].paths,
            Path(out),
            settings,
            tuple(cameras) if cameras is not None else None,
            start,
            stop,
            Path(rig) if rig is not None else None,
            overwrite,
            events=Path(events) if events is not None else None,
        ),
        progress,
        redo,
    )
    return Run(outcome.directory, outcome.manifest)


def inspect(
    log: str | Path | Sequence[str | Path],
    *,
    config: RunConfig | None = None,
    cameras: Sequence[str] | None = None,
    rig: str | Path | None = None,
    sync: bool = True,
) -> dict[str, Any]:
    """What a log holds and, with `sync`, how well its cameras can be grouped: as `inspect --json` prints it.

    Args:
        log: a file, a bag folder, or the split files of one drive.
        config: settings; default: the defaults.
        cameras: only these.
        rig: calibration file that wins over the log's.
        sync: read all stamps (no image is decoded) and give the figures of grouping under ``sync``.

    Raises:
        PerceptionBatchError: nothing readable, or settings that do not fit the log.
    """
    from perception_batch.inspection import facts_of

    return facts_of(
        _paths(log),
        config or RunConfig(),
        tuple(cameras) if cameras is not None else None,
        rig_file=Path(rig) if rig is not None else None,
        everything=sync,
    )


def fuse(
    directory: str | Path,
    overrides: Sequence[str] = (),
    *,
    rig: str | Path | None = None,
    out: str | Path | None = None,
) -> Run:
    """Fusion again from stored detections, with ``section.key=value`` overrides, in place or into `out`.

    Raises:
        ConfigError: a key that fusion does not use.
        LogError: `directory` holds no finished run.
    """
    outcome = fuse_again(
        Path(directory),
        overrides,
        rig_file=Path(rig) if rig is not None else None,
        out=Path(out) if out is not None else None,
    )
    return Run(outcome.directory, outcome.manifest)


def load_run(directory: str | Path) -> Run:
    """A finished run, from its folder ``OUT/<drive>``.

    Raises:
        LogError: no run there, or one that did not finish.
    """
    refuse_url(directory, "load_run")
    return Run(Path(directory), load_finished(Path(directory)))


def _paths(log: str | Path | Sequence[str | Path]) -> tuple[Path, ...]:
    return (Path(log),) if isinstance(log, (str, Path)) else tuple(Path(item) for item in log)
