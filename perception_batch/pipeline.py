"""One drive: opens the rooms, decides what is to be done, and has it done.

What draws, fuses and writes (`drive_run`) is imported while the model is made ready for the log's images: half of a second
each, and the one leaves Python's lock to the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from perception_batch import flow
from perception_batch.batch_choice import settle_batch_size
from perception_batch.config import DetectConfig
from perception_batch.detect import Detector, open_detector
from perception_batch.devices import KeptDetector
from perception_batch.drive_output import hold_output
from perception_batch.drive_plan import frozen_plan, sync_plan
from perception_batch.errors import EXIT_OK, WriteError, printable
from perception_batch.job import (
    Job,
    OpenDrive,
    Outcome,
    Progress,
    existing_run,
    identity,
    open_drive,
    stored_identity,
)
from perception_batch.looks import CameraViews, Crops
from perception_batch.runs import Difference, EventLog, clear_segments, difference
from perception_batch.start_up import (
    OF_IMAGE_TRACKS,
    OF_VIDEO,
    import_ahead,
    many_imports,
    one_opencv_thread,
    scheduled_as_batch,
)
from perception_batch.write import Manifest, clear_video_parts


def run_drive(
    job: Job,
    progress: Progress | None = None,
    redo: Callable[[Job, OpenDrive, Manifest, Difference], Outcome] | None = None,
    open_with: Callable[[DetectConfig], Detector] | None = None,
    *,
    kept: KeptDetector | None = None,
    events: EventLog | None = None,
) -> Outcome:
    """Process one drive, or what is still missing of it.

    Args:
        job: what to do.
        progress: hears of each timestep.
        redo: does the cheap stages again where only they changed (`replay.redo`).
        open_with: opens the detector; None: `open_detector`.
        kept: the detector of several drives, used instead.
        events: hears of segments that land.

    Raises:
        LockedError: another process works on this output.
        PerceptionBatchError: any of the tree; the output then says ``failed`` or ``unfinished``.
    """
    clock = time.perf_counter()
    with (
        scheduled_as_batch(),
        KeptDetector(
            job.config.detect, open_with or open_detector
        ) as own,  # opens nothing before it is asked
        flow.started((kept or own).get, "model", threads=job.threads) as model,
        one_opencv_thread(),
        open_drive(job) as opened,
        ExitStack() as stack,
    ):
        ready = None
        if job.threads and (job.overwrite or not (job.directory / "run.json").exists()):
            ready = stack.enter_context(
                flow.started(lambda: _make_ready(job, opened, model.result()), "ready")
            )
        with many_imports():
            from perception_batch.drive_run import DriveRun
            from perception_batch.outputs import check_outputs

        if job.config.render.video:
            import_ahead(OF_VIDEO)
        check_outputs(job.config, opened.selected)
        output = stack.enter_context(hold_output(job, events))
        manifest = existing_run(job.directory, overwrite=job.overwrite)
        detector = model.result()
        wanted = identity(job, opened, detector.info.sha256)
        if manifest is not None and not job.overwrite:
            change = difference(stored_identity(manifest), wanted)
            finished = manifest.status in ("complete", "partial")
            if change.detect:
                raise WriteError(
                    f"{printable(job.directory)} was made with other settings: {', '.join(change.detect)}; give "
                    "--overwrite to replace it, or another --out"
                )
            if finished and not job.config.runs.keep_segments:
                clear_segments(job.directory)  # of a run that was killed between its last two steps
            if finished and change.is_empty:
                clear_video_parts(job.directory)
                return output.skipped(Outcome(job.drive, job.directory, EXIT_OK, "skipped", manifest))
            base = manifest.calibration.get("base_frame")
            if finished and base is not None and opened.rig.base_frame not in ("", base):
                raise WriteError(  # the stored path of the vehicle is that of the base frame
                    f"{printable(job.directory)} was made in the base frame {printable(base)}, now it is "
                    f"{printable(opened.rig.base_frame)}; give --overwrite to replace it, or another --out"
                )
            if finished and redo is not None:
                output.fetch()
                return output.finish(redo(job, opened, manifest, change))
        if ready is not None:
            ready.join()
        settle_batch_size(detector, job.config, opened, None if job.overwrite else manifest)
        plan = frozen_plan(job, opened, wanted)
        opened = replace(opened, plan=sync_plan(plan))
        if job.threads and not opened.rig.cameras.keys() >= set(opened.selected):
            stack.enter_context(flow.started(lambda: import_ahead(OF_IMAGE_TRACKS), "imports"))
        run = DriveRun(job, opened, detector, wanted, clock, plan, output, events)
        return output.finish(run.execute(progress or Progress()))


def _make_ready(job: Job, opened: OpenDrive, detector: Detector) -> None:
    """Have the detector compile for the images of the log's head. What is wrong with them is said where they are used."""
    CameraViews(job.config, detector.view, Crops.of(detector.info, opened.rig)).of_head(opened.head)


def keep_detector(settings: DetectConfig) -> KeptDetector:
    """One detector for several drives, one after another."""
    return KeptDetector(settings, open_detector)
