"""What a run leaves in its folder: which writers are opened, what is drawn, and what of an earlier run goes first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from perception_batch.atomic import PARTIAL_SUFFIX
from perception_batch.calibration import Rig
from perception_batch.config import RunConfig
from perception_batch.read import Head
from perception_batch.render import USUAL_ASPECT, Layout, Mosaic, make_layout, view_aspect
from perception_batch.shots import Preparer
from perception_batch.write import (
    AnnotationFacts,
    ChangesWriter,
    DriveFacts,
    DriveVideos,
    JsonLinesWriter,
    ResultTableWriter,
    VideoParts,
    Writer,
    annotation_writers,
    check_annotation_packages,
    remove_annotations,
    remove_videos,
)

VIDEO_NAME = "annotated.mp4"
_OWN_FILES = (
    "detections.parquet",
    "timesteps.parquet",
    "objects.parquet",
    "observations.parquet",
    "tracks.parquet",
    "frames.parquet",
    "ego.parquet",
    "lidar.parquet",
    "mounts.parquet",
    "lenses.parquet",
    "rig.json",
    "timesteps.jsonl",
    "timesteps.jsonl.zst",
)


def check_outputs(config: RunConfig, cameras: Sequence[str]) -> None:
    """Whether what the settings want can be made; asked before anything is written.

    Raises:
        ConfigError: a package is missing, or the video's layout names a camera that is not there.
    """
    check_annotation_packages(config.write)
    if config.render.video:
        _layout_of(dict.fromkeys(cameras, USUAL_ASPECT), config, Rig("", {}, {}))


def remove_outputs(directory: Path) -> None:
    """Remove all that an earlier run left in `directory` but its manifest; other files stay.

    Raises:
        WriteError: the place is read-only.
    """
    for name in _OWN_FILES:
        for whole_or_not in (name, name + PARTIAL_SUFFIX):
            (directory / whole_or_not).unlink(missing_ok=True)
    remove_annotations(directory)
    remove_videos(directory)


def annotation_facts(
    facts: DriveFacts, rig: Rig, config: RunConfig, image_frames: Mapping[str, str]
) -> AnnotationFacts:
    """What the files for viewers need; `image_frames` are the ``frame_id`` of the log's images, by camera."""
    shifts = {
        name: round(camera.stamp_offset_ms * 1e6)
        for name, camera in config.cameras.items()
        if camera.stamp_offset_ms
    }
    return AnnotationFacts(facts, rig, config.build_ontology(), image_frames, shifts)


def result_writers(
    directory: Path,
    facts: DriveFacts,
    config: RunConfig,
    *,
    detection: bool = True,
    annotations: AnnotationFacts | None = None,
) -> list[Callable[[], Writer]]:
    """What opens the writers of results: detection's tables (unless stored already), fusion's, JSON, files for viewers."""
    of_detection = ("detections", "timesteps", *(("lidar",) if config.fuse.lidar is not None else ()))
    names = (*(of_detection if detection else ()), "objects", "observations")
    openers: list[Callable[[], Writer]] = [
        partial(ResultTableWriter, directory, facts, name) for name in names
    ]
    if detection:
        openers += [partial(ChangesWriter, directory, facts, table) for table in ("mounts", "lenses")]
    form = config.write.timesteps
    if form != "none":
        openers.append(partial(JsonLinesWriter, directory, facts, form))
    if annotations is not None:
        openers += annotation_writers(directory, annotations, config.write)
    return openers


def open_videos(directory: Path, mosaic: Mosaic, config: RunConfig, parts: VideoParts) -> DriveVideos:
    """The files that the mosaic's pictures go to; `parts` then knows what has landed of them.

    Raises:
        WriteError: no encoder, or it refuses; the disk refuses.
    """
    tiles = None
    if config.render.per_camera:
        slots = mosaic.layout.slots.items()
        tiles = {name: (slot.x, slot.y, slot.width, slot.height) for name, slot in slots}
    facts = {"blank": hashlib.sha256(mosaic.blank().tobytes()).hexdigest()}
    return DriveVideos(directory, mosaic.size_wh, config.render, tiles, parts, facts)


def make_mosaic(facts: DriveFacts, config: RunConfig, head: Head, rig: Rig, preparer: Preparer) -> Mosaic:
    """What draws the timesteps of a drive, all in one size.

    Raises:
        ConfigError: `render.layout` names a camera that is not there.
    """
    aspects: dict[str, float] = {}
    for name, camera in head.cameras.items():
        known = camera.height_px > 0 and camera.width_px > 0
        aspects[name] = (
            view_aspect(preparer.view(name, (camera.height_px, camera.width_px))) if known else USUAL_ASPECT
        )
    return Mosaic(
        _layout_of(aspects, config, rig),
        rig,
        drive=facts.drive,
        first_stamp_ns=facts.first_stamp_ns,
        labels=facts.labels,
        range_m=config.render.bird_eye_range_m,
    )


def _layout_of(aspects: Mapping[str, float], config: RunConfig, rig: Rig) -> Layout:
    render = config.render
    rows = None if render.layout == "auto" else render.layout
    return make_layout(aspects, rig, width_px=render.width_px, bird_eye=render.bird_eye, rows=rows)
