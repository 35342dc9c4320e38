"""The pictures of a drive and its videos: drawn while it runs, or again from what a run stored.

Either way the videos come in parts, one a segment; what has landed of them is neither decoded, drawn nor encoded again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from perception_batch import flow
from perception_batch.config import RunConfig
from perception_batch.detected_steps import detected_steps
from perception_batch.drive_plan import freeze_plan
from perception_batch.errors import LogError, WriteError, printable
from perception_batch.geometry import DetectorView
from perception_batch.grouped_log import grouped_log
from perception_batch.job import Job, OpenDrive, open_drive
from perception_batch.manifest_sections import versions
from perception_batch.outputs import make_mosaic, open_videos
from perception_batch.render import Mosaic, Tile
from perception_batch.runs import Identity, SegmentPlan, stage_hashes
from perception_batch.shots import Preparer, ReadyShot, Shot, shots
from perception_batch.signals import held
from perception_batch.stages import Profile, Threads
from perception_batch.start_up import scheduled_as_batch
from perception_batch.stored_run import facts_of, stored_results
from perception_batch.types import Detections, Image, TimestepResult
from perception_batch.write import Manifest, VideoParts, clear_video_parts, drawn_from, read_rig


class Drawing:
    """Draws the timesteps of a drive that have no picture yet, and gives all to the videos."""

    def __init__(self, directory: Path, mosaic: Mosaic, config: RunConfig, parts: VideoParts) -> None:
        """Look for what has landed.

        Args:
            directory: of the run.
            mosaic: draws.
            config: settings.
            parts: of the videos; asked from now on which pictures are wanted.

        Raises:
            WriteError: no encoder, or it refuses; the disk refuses.
        """
        self._mosaic = mosaic
        self._parts = parts
        self.videos = open_videos(directory, mosaic, config, parts)
        """A context manager: where the pictures go."""

    def draw(self, tiles: Mapping[str, Tile], result: TimestepResult) -> Image | None:
        """The picture of the next timestep; None where there is one already."""
        if self._parts.wants(result.stamp_ns):
            return self._mosaic.draw(tiles, result)
        self._mosaic.pass_over(result)
        return None

    def write(self, result: TimestepResult, picture: Image | None) -> None:
        """Give the next timestep, as `draw` gave it, to the videos.

        Raises:
            WriteError: the disk is full or refuses.
        """
        self.videos.write(result.stamp_ns, picture, drawn_from(result))


def video_parts(directory: Path, plan: SegmentPlan, made_of: Identity) -> VideoParts:
    """The parts of a drive's videos: cut as its detections are, and good for one log, model, settings and versions only."""
    key = {
        "cut": [plan.origin_ns, plan.length_ns, plan.first, plan.last],
        "log": made_of.fingerprint,
        "model": made_of.model_sha256,
        "settings": stage_hashes(made_of.config, made_of.selection).render,
        "versions": versions(),
    }
    return VideoParts(directory, plan.segment_of, key)


def draw_missing(
    job: Job, manifest: Manifest, opened: OpenDrive, workers: int, advance: Callable[[int], None]
) -> None:
    """Draw what a run that was stopped had drawn from other results than there are now (another device, another batch).

    Args:
        job: the drive; its tables are there.
        manifest: as of now.
        opened: for its plan; the log is read once more.
        workers: threads that decode.
        advance: hears of images.
    """
    with open_drive(job) as again:
        again = replace(again, plan=opened.plan)
        draw_stored(job.directory, manifest, job.config, again, workers=workers, advance=advance)


def draw_stored(
    directory: Path,
    manifest: Manifest,
    config: RunConfig,
    opened: OpenDrive,
    *,
    workers: int,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Draw the videos again; images come from the log, results from the stored detections.

    Args:
        directory: of the run.
        manifest: says what it was made of; its selection is the one that is wanted.
        config: settings that are wanted.
        opened: its log.
        workers: threads that decode.
        advance: hears of images.

    Raises:
        LogError: the log does not give the timesteps that the run had.
        WriteError: the disk is full or refuses.
    """
    made_of = Identity(
        str(manifest.log.get("fingerprint")),
        str(manifest.model.get("sha256")),
        config.model_dump(mode="json"),
        manifest.selection,
    )
    plan = freeze_plan(opened, config, made_of)
    for _ in range(2):
        parts = video_parts(directory, plan, made_of)
        with scheduled_as_batch():
            missing = _draw(directory, manifest, config, opened, parts, workers, advance)
        if not missing:
            return
        clear_video_parts(directory)
    raise WriteError(f"{printable(directory)}: the pictures of segments {missing} did not all come")


def _draw(
    directory: Path,
    manifest: Manifest,
    config: RunConfig,
    opened: OpenDrive,
    parts: VideoParts,
    workers: int,
    advance: Callable[[int], None],
) -> list[int]:
    """Draw what has not landed; gives the segments that had landed and were drawn from other results."""
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
    preparer = Preparer(config, view, profile, judges=False)
    mosaic = make_mosaic(facts_of(manifest, rig), config, opened.head, rig, preparer)
    threads = Threads(True, workers, profile)
    drawing = Drawing(directory, mosaic, config, parts)
    videos = drawing.videos

    def prepared(shot: Shot) -> ReadyShot:
        if parts.wants(shot.step.frame_set.stamp_ns):
            return preparer(shot)
        return ReadyShot(shot, None, np.zeros((0, 0, 3), np.uint8), "")

    read = threads.ahead(
        grouped_log(opened, config, rig),
        "read",
        depth=64,
        limit_bytes=round(config.decode.queue_mb * 1e6),
        size_of=lambda step: step.frame_set.size_bytes,
    )
    ready = threads.map(prepared, shots(read), "decode")
    nothing = Detections.empty()
    drawn = detected_steps(((item, nothing if item.view is not None else None) for item in ready), tiles=True)
    results = stored_results(directory, manifest, config, rig)
    with ExitStack() as stack:
        stack.callback(videos.discard)  # nothing once it is closed; a failure leaves the video as it was
        stack.enter_context(flow.closed(ready))
        stack.enter_context(flow.closed(drawn))
        for result, item in zip(results, drawn, strict=True):
            if item.step.frame_set.stamp_ns != result.stamp_ns or item.step.frame_set.index != result.index:
                raise LogError(
                    opened.log.paths[0],
                    f"timestep {result.index} of the run is not in the log at its time: other log?",
                )
            picture = drawing.draw(item.tiles, result)
            with held():
                drawing.write(result, picture)
            advance(len(result.frame_stamps_ns))
        videos.close()
    return videos.missing
