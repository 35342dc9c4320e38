"""A finished run again, from what it stored: fusion without pixels, and the video from the log.

Everything after ``detections.parquet`` is a function of it, of ``timesteps.parquet``, ``ego.parquet``, the rig
and the settings; so what is made here equals, to the byte, what a whole run with those settings makes.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from perception_batch import flow
from perception_batch.accounts import Accounts
from perception_batch.calibration import Camera, Intrinsics, Rig
from perception_batch.chain import Preparer, Profile, Threads, detected_steps, shots
from perception_batch.config import RunConfig, override_config, parse_config
from perception_batch.ego_motion import moved_cameras
from perception_batch.errors import EXIT_OK, CalibrationError, ConfigError, LogError, WriteError, printable
from perception_batch.geometry import SE3, DetectorView
from perception_batch.grouped_log import grouped_log
from perception_batch.job import Job, OpenDrive, Outcome, Progress, open_drive
from perception_batch.manifest_sections import calibration_section, rig_with_masks
from perception_batch.objects import ObjectMaker
from perception_batch.outputs import (
    annotation_facts,
    check_outputs,
    make_mosaic,
    open_videos,
    result_writers,
)
from perception_batch.pipeline import decode_workers, make_objects
from perception_batch.read import log_path, read_rig_file
from perception_batch.runs import Difference, lock_path, locked, stage_of_keys
from perception_batch.signals import held
from perception_batch.trajectory import Trajectory
from perception_batch.types import Detections, EgoPose, TimestepResult
from perception_batch.write import (
    DriveFacts,
    Manifest,
    StoredTimestep,
    TracksWriter,
    WriterGroup,
    check_annotation_packages,
    read_ego,
    read_manifest,
    read_rig,
    read_stored_timesteps,
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
            render_stored(directory, manifest, config, opened, progress.advance)
        finally:
            progress.stop()
    manifest = replace(manifest, config=config.model_dump(mode="json"))
    write_manifest(directory, manifest)
    return Outcome(manifest.drive, directory, EXIT_OK, "redid", manifest)


def redo(job: Job, opened: OpenDrive, manifest: Manifest, change: Difference) -> Outcome:
    """Bring a finished run to the job's settings, by its cheap stages alone."""
    directory, config = job.directory, job.config
    if change.fuse or change.write:
        manifest = fuse_stored(directory, manifest, config, opened.rig)
    if not config.render.video:
        remove_videos(directory)
    elif change.fuse or change.render:
        render_stored(directory, manifest, config, opened, lambda _: None)
    selection = {**manifest.selection, "rig": change.rig_hash}
    manifest = replace(manifest, config=config.model_dump(mode="json"), selection=selection)
    write_manifest(directory, manifest)
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


def facts_of(manifest: Manifest, rig: Rig) -> DriveFacts:
    """What the tables of a stored run need."""
    labels = {int(key): str(value) for key, value in dict(manifest.model.get("labels", {})).items()}
    first = int(manifest.log.get("first_stamp_ns", 0))
    has_ego = manifest.ego.get("source") is not None
    return DriveFacts(manifest.drive, first, labels, rig.base_frame if rig.cameras else "", has_ego)


def frame_ids_of(manifest: Manifest) -> dict[str, str]:
    """``frame_id`` of the log's images, by camera; empty for a run of a version that did not keep them."""
    stored = manifest.log.get("frame_ids")
    return {str(k): str(v) for k, v in stored.items()} if isinstance(stored, dict) else {}


def stored_results(
    directory: Path, manifest: Manifest, config: RunConfig, rig: Rig
) -> Iterator[tuple[StoredTimestep, TimestepResult]]:
    """Every stored timestep and its fusion, in order."""
    yield from _fused(directory, config, rig, make_objects(config, rig, facts_of(manifest, rig).labels))


def _fused(
    directory: Path, config: RunConfig, rig: Rig, objects: ObjectMaker
) -> Iterator[tuple[StoredTimestep, TimestepResult]]:
    trajectory = Trajectory(config.read.max_pose_gap_s)
    poses: Iterator[EgoPose] = read_ego(directory)
    more = True
    waiting: deque[StoredTimestep] = deque()
    for step in read_stored_timesteps(directory, lidar=config.fuse.lidar is not None):
        needed = max([step.stamp_ns, *step.frame_stamps_ns.values()])
        while more and (trajectory.newest_ns is None or trajectory.newest_ns < needed):
            pose = next(poses, None)
            more = pose is not None
            if pose is not None:
                trajectory.add(pose)
        # A pose or lens that config or rig file gives does not change: it goes over what the log says.
        cameras = rig.cameras
        mounts = {n: pose for n, pose in step.mounts.items() if n in cameras and cameras[n].pose_from_log}
        lenses = {n: lens for n, lens in step.lenses.items() if n in cameras and cameras[n].lens_from_log}
        moved = moved_cameras(rig, trajectory, step.stamp_ns, step.frame_stamps_ns, mounts)
        ego = trajectory.pose_at(step.stamp_ns)
        trajectory.forget_before(step.stamp_ns - 2_000_000_000)
        waiting.append(step)
        done = objects.push(
            step.index,
            step.stamp_ns,
            step.status,
            step.frame_stamps_ns,
            step.detections,
            step.image_hw,
            moved,
            ego,
            step.lidar,
            mounts,
            lenses,
        )
        yield from ((waiting.popleft(), result) for result in done)
    yield from ((waiting.popleft(), result) for result in objects.flush())


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
            for _, result in _fused(directory, config, rig, objects):
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


def render_stored(
    directory: Path, manifest: Manifest, config: RunConfig, opened: OpenDrive, advance: Callable[[int], None]
) -> None:
    """Draw the videos again; images come from the log, results from the stored detections.

    Raises:
        LogError: the log does not give the timesteps that the run had.
    """
    rig = read_rig(directory)
    stride, stretch = int(manifest.model.get("stride", 32)), manifest.model.get("family") == "stretch"

    def view(
        image_hw: tuple[int, int],
        *,
        image_size: int | None = None,
        roi_px: tuple[int, int, int, int] | None = None,
        rotate_deg: int = 0,
    ) -> DetectorView:
        side = config.detect.image_size if image_size is None else image_size
        return DetectorView.fit(
            image_hw,
            long_side_px=side,
            stride_px=stride,
            roi_px=roi_px,
            rotate_deg=rotate_deg,
            stretch=stretch,
        )

    profile = Profile()
    preparer = Preparer(config, view, profile)
    mosaic = make_mosaic(facts_of(manifest, rig), config, opened.head, rig, preparer)
    threads = Threads(True, decode_workers(config), profile)
    read = threads.ahead(
        grouped_log(opened, config, rig),
        "read",
        depth=64,
        limit_bytes=round(config.decode.queue_mb * 1e6),
        size_of=lambda step: step.frame_set.size_bytes,
    )
    ready = threads.map(preparer, shots(read), "decode")
    nothing = Detections.empty()
    drawn = detected_steps(((item, nothing if item.view is not None else None) for item in ready), tiles=True)
    results = stored_results(directory, manifest, config, rig)
    video = open_videos(directory, mosaic, config)
    with ExitStack() as stack:
        stack.callback(video.discard)  # nothing once it is closed; a failure leaves the video as it was
        stack.enter_context(flow.closed(ready))
        stack.enter_context(flow.closed(drawn))
        for (step, result), item in zip(results, drawn, strict=True):
            if item.step.frame_set.stamp_ns != step.stamp_ns or item.step.frame_set.index != step.index:
                raise LogError(
                    opened.log.paths[0],
                    f"timestep {step.index} of the run is not in the log at its time: other log?",
                )
            picture = mosaic.draw(item.tiles, result)
            with held():
                video.write(step.stamp_ns, picture)
            advance(len(step.frame_stamps_ns))
        with held():
            video.close()
