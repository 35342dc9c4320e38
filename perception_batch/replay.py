"""A finished run again, from what it stored: fusion without pixels, and the video from the log.

Everything after ``detections.parquet`` is a function of it, of ``timesteps.parquet``, ``ego.parquet``, the rig
and the settings; so what is made here equals, to the byte, what a whole run with those settings makes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from perception_batch.accounts import Accounts
from perception_batch.calibration import Camera, Intrinsics, Rig
from perception_batch.config import RunConfig, override_config, parse_config
from perception_batch.drawing import draw_stored
from perception_batch.errors import EXIT_OK, CalibrationError, ConfigError, LogError, WriteError, printable
from perception_batch.geometry import SE3
from perception_batch.job import Job, OpenDrive, Outcome, Progress, open_drive
from perception_batch.manifest_sections import calibration_section, rig_with_masks
from perception_batch.objects import make_objects
from perception_batch.outputs import annotation_facts, check_outputs, result_writers
from perception_batch.read import log_path, read_rig_file
from perception_batch.runs import Difference, lock_path, locked, stage_of_keys
from perception_batch.shared_machine import decode_workers
from perception_batch.signals import held
from perception_batch.stored_run import facts_of, frame_ids_of, fused_again
from perception_batch.write import (
    Manifest,
    TracksWriter,
    WriterGroup,
    check_annotation_packages,
    clear_video_parts,
    read_manifest,
    read_rig,
    remove_annotations,
    remove_videos,
    write_manifest,
    write_rig,
)

_FUSE_INPUTS = ("detections.parquet", "timesteps.parquet", "frames.parquet", "ego.parquet")


def load_finished(directory: Path) -> Manifest:
    """The manifest of a run that came to its end.

    Raises:
        LogError: no run, or one that did not finish.
    """
    try:
        manifest = read_manifest(directory)
    except (FileNotFoundError, NotADirectoryError):
        raise LogError(directory, "no run here: run.json is missing; give the folder OUT/<drive>") from None
    if manifest.status not in ("complete", "partial"):
        raise LogError(directory, f"the run is {manifest.status}; start it again first")
    return manifest


def fuse_again(
    directory: Path, overrides: Sequence[str], *, rig_file: Path | None = None, out: Path | None = None
) -> Outcome:
    """The command `fuse`: fusion with other settings, in place or into `out`.

    Raises:
        ConfigError: a key that fusion does not use.
        LogError: `directory` holds no finished run.
        LockedError: another process works on what is to be written.
        WriteError: `out` exists.
    """
    with _locked(directory if out is None else out, known=directory):
        return _fuse_again(directory, overrides, rig_file, out)


def _fuse_again(
    directory: Path, overrides: Sequence[str], rig_file: Path | None, out: Path | None
) -> Outcome:
    manifest = load_finished(directory)
    before = parse_config(manifest.config, str(directory / "run.json"))
    config = override_config(before, overrides)
    _allow_only(before, config, {"fuse", "write"}, "fuse")
    check_annotation_packages(config.write)
    if rig_file is not None and config.fuse.lidar is not None:
        raise ConfigError(
            "the lidar's ranges belong to the calibration that the run had; use `perception-batch run --rig`, or give "
            "--set fuse.lidar=null"
        )
    rig = rig_with_overrides(read_rig(directory), config, rig_file)
    if out is not None:
        if out.exists():
            raise WriteError(f"{printable(out)} exists; choose another --out")
        out.mkdir(parents=True)
        with_lidar = ("lidar.parquet",) if config.fuse.lidar is not None else ()
        changes = tuple(name for name in ("mounts.parquet", "lenses.parquet") if (directory / name).exists())
        for name in (*_FUSE_INPUTS, *with_lidar, *changes):
            shutil.copyfile(directory / name, out / name)
        directory = out
    manifest = fuse_stored(directory, manifest, config, rig)
    write_manifest(directory, manifest)
    return Outcome(manifest.drive, directory, EXIT_OK, "redid", manifest)


def render_again(
    directory: Path,
    overrides: Sequence[str],
    *,
    log_root: Path | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """The command `render`: the video again, from the log's images and the stored detections.

    Raises:
        ConfigError: a key outside the section `render`.
        LogError: no finished run, or its log has moved or changed.
        LockedError: another process works on it.
    """
    with _locked(directory, known=directory):
        return _render_again(directory, overrides, log_root, progress)


def _render_again(
    directory: Path, overrides: Sequence[str], log_root: Path | None, progress: Progress | None
) -> Outcome:
    manifest = load_finished(directory)
    before = parse_config(manifest.config, str(directory / "run.json"))
    config = override_config(before, overrides)
    _allow_only(before, config, {"render"}, "render")
    rig = read_rig(directory)
    check_outputs(config, sorted({*rig.cameras, *rig.uncalibrated}))
    job = job_of(directory, manifest, config, log_root)
    with open_drive(job) as opened:
        if opened.log.fingerprint() != manifest.log.get("fingerprint"):
            raise LogError(job.paths[0], "is not the log of this run: its fingerprint differs")
        progress = progress or Progress()
        progress.start(job.drive, int(manifest.counts.get("frames_used", 0)))
        try:
            workers = decode_workers(config)
            draw_stored(directory, manifest, config, opened, workers=workers, advance=progress.advance)
        finally:
            progress.stop()
    manifest = replace(manifest, config=config.model_dump(mode="json"))
    write_manifest(directory, manifest)
    clear_video_parts(directory)
    return Outcome(manifest.drive, directory, EXIT_OK, "redid", manifest)


def redo(job: Job, opened: OpenDrive, manifest: Manifest, change: Difference) -> Outcome:
    """Bring a finished run to the job's settings, by its cheap stages alone."""
    directory, config = job.directory, job.config
    if change.fuse or change.write:
        manifest = fuse_stored(directory, manifest, config, opened.rig)
    selection = {**manifest.selection, "rig": change.rig_hash}
    manifest = replace(manifest, config=config.model_dump(mode="json"), selection=selection)
    if not config.render.video:
        remove_videos(directory)
    elif change.fuse or change.render:
        draw_stored(directory, manifest, config, opened, workers=decode_workers(config, job.decode_threads))
    write_manifest(directory, manifest)
    clear_video_parts(directory)
    return Outcome(job.drive, directory, manifest.exit_status or EXIT_OK, "redid", manifest)


@contextmanager
def _locked(directory: Path, *, known: Path) -> Iterator[None]:
    """Hold the lock of a drive's folder, as `run` does; `known` must be a run, so that nothing is made beside a wrong path."""
    load_finished(known)
    place = directory.resolve()
    with locked(lock_path(place.parent, place.name), str(directory)):
        yield


def _allow_only(before: RunConfig, after: RunConfig, allowed: set[str], command: str) -> None:
    """Refuse changes of other stages, by name."""
    changed = stage_of_keys(before.model_dump(mode="json"), after.model_dump(mode="json"))
    wrong = [key for key, stage in changed.items() if stage not in allowed and stage != "none"]
    if wrong:
        raise ConfigError(
            f"`{command}` cannot change {', '.join(map(printable, wrong))}; use `perception-batch run` with the new "
            "settings"
        )


def job_of(directory: Path, manifest: Manifest, config: RunConfig, log_root: Path | None) -> Job:
    """The job whose run this was, with the log where it lies now.

    Raises:
        LogError: the log is not there.
    """
    paths = [log_path(text) for text in manifest.log.get("paths", [])]
    if log_root is not None:
        paths = [log_root / path.name for path in paths]
    for path in paths:
        if not path.exists():
            raise LogError(path, "the run's log is not there; say where with --log-root DIR")
    if not paths:
        raise LogError(directory / "run.json", "names no log")
    cameras = manifest.selection.get("cameras")
    start, stop = manifest.selection.get("start"), manifest.selection.get("stop")
    events = manifest.selection.get("events")
    return Job(
        manifest.drive,
        tuple(paths),
        directory.parent,
        config,
        tuple(cameras) if cameras is not None else None,
        str(start) if start is not None else None,
        str(stop) if stop is not None else None,
        ranges_ns=None if events is None else tuple((int(a), int(b)) for a, b in events),
    )


def rig_with_overrides(rig: Rig, config: RunConfig, rig_file: Path | None) -> Rig:
    """A stored rig under a rig file, under the config's `intrinsics` and `base_SE3_camera`.

    Raises:
        CalibrationError: numbers that make no sense, or a file that fits no camera.
    """
    names = sorted({*rig.cameras, *rig.uncalibrated})
    file = read_rig_file(rig_file) if rig_file is not None else None
    if file is not None and not set(file.intrinsics) & set(names):
        raise CalibrationError(
            ", ".join(file.intrinsics), f"{file.source} fits no camera; these are {', '.join(names)}"
        )
    if file is not None and file.poses and rig.base_frame and file.base_frame != rig.base_frame:
        raise ConfigError(
            f"{file.source} is in the base frame {printable(file.base_frame)}, the run in {printable(rig.base_frame)}; "
            "use `perception-batch run --rig` with another --out"
        )
    cameras, uncalibrated = dict(rig.cameras), dict(rig.uncalibrated)
    for name in names:
        old, own = rig.cameras.get(name), config.camera(name)
        lens = old.intrinsics if old is not None else None
        pose = old.base_SE3_camera if old is not None else None
        lens_source, _, pose_source = (old.source if old is not None else "").partition("+")
        pose_source = pose_source or lens_source
        if file is not None and name in file.intrinsics:
            lens, lens_source = file.intrinsics[name], file.source
            if name in file.poses:
                pose, pose_source = file.poses[name], file.source
        try:
            if own.intrinsics is not None:
                lens, lens_source = Intrinsics.from_dict(own.intrinsics), "config"
            if own.base_SE3_camera is not None:
                mount = own.base_SE3_camera
                pose = SE3.from_quaternion(mount.quaternion_xyzw, mount.position_m)
                pose_source = "config"
        except ValueError as error:
            raise CalibrationError(name, str(error)) from None
        if lens is not None and pose is not None:
            source = lens_source if lens_source == pose_source else f"{lens_source}+{pose_source}"
            cameras[name] = Camera(name, lens, pose, source)
            uncalibrated.pop(name, None)
    base = rig.base_frame or (file.base_frame if file is not None else "") or "base_link"
    ground = rig.ground_z_m
    if file is not None and file.ground_z_m == file.ground_z_m:
        ground = file.ground_z_m
    return Rig(base if cameras else "", cameras, uncalibrated, ground, rig.notes)


def fuse_stored(directory: Path, manifest: Manifest, config: RunConfig, rig: Rig) -> Manifest:
    """Write the tables of fusion again; gives the manifest with the new numbers, for the caller to write.

    Raises:
        WriteError: the disk is full or refuses; the run is as it was.
    """
    facts = facts_of(manifest, rig)
    objects = make_objects(config, rig, facts.labels)
    accounts = Accounts.of(())
    about = annotation_facts(facts, rig, config, frame_ids_of(manifest))
    new = directory / ".fusing"  # a failure must leave the run as it was
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir()
        with (
            TracksWriter(new, facts) as tracks,
            WriterGroup(result_writers(new, facts, config, detection=False, annotations=about)) as group,
        ):
            for result in fused_again(directory, config, rig, objects):
                ended = objects.take_finished()
                with held():
                    group.write(result)
                    tracks.write(ended)
                accounts.add_result(result)
                accounts.tracks += len(ended)
        write_rig(new, rig_with_masks(rig, config))
        with held():
            unfinished = replace(manifest, status="unfinished", finished_utc=None, exit_status=None)
            write_manifest(directory, unfinished)
            without = () if config.fuse.lidar is not None else ("lidar.parquet",)
            for name in ("timesteps.jsonl", "timesteps.jsonl.zst", *without):
                (directory / name).unlink(missing_ok=True)
            remove_annotations(directory)
            for path in sorted(new.iterdir()):
                path.replace(directory / path.name)
    except OSError as error:
        raise WriteError(f"{printable(directory)}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return replace(
        manifest,
        config=config.model_dump(mode="json"),
        counts={**manifest.counts, "objects": accounts.objects, "tracks": accounts.tracks},
        calibration=calibration_section(rig, objects.fuser, manifest.calibration.get("changes", ())),
    )
