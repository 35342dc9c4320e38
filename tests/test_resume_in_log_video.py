"""In-log video of a run that goes on: decoded from the key frame before what is missing, and the tables are those of a whole run."""

from __future__ import annotations

import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from patch_detector import PatchDetector
from simulate.flat_stage import flat_stage
from stops_after import StopsAfter
from video_maker import write_video

from perception_batch.config import load_config
from perception_batch.detected_steps import DetectedStep
from perception_batch.devices import KeptDetector
from perception_batch.ego_motion import Step
from perception_batch.errors import EXIT_RETRY, WriteError
from perception_batch.job import Job, Outcome
from perception_batch.pipeline import run_drive
from perception_batch.resume import VIDEO_AS_TOLD, RunningSegments
from perception_batch.runs import DetectedTimestep, Made, SegmentContent, SegmentPlan, SegmentStore, read_plan
from perception_batch.segment_work import detect_segment, prepare_drive
from perception_batch.simulate.drive import simulate
from perception_batch.simulate.settings import Faults, SimulateSettings
from perception_batch.types import Detections, EncodedFrame, FrameSet, StillPayload

SECONDS = 12
SETTINGS = ["detect.image_size=96", "runs.segment_s=2", "render.width_px=320", "runs.loss_limit_percent=50"]
NO_VIDEO = "render.video=false"


class PixelDetector(PatchDetector):
    """One box an image, whose score tells each pixel: other pixels give other tables."""

    images = 0

    def detect(self, images: Any, views: Any, keep_score: Any) -> list[Detections]:
        type(self).images += len(images)
        found = []
        for image in images:
            told = zlib.crc32(np.ascontiguousarray(image).tobytes()) / 2**32
            box = np.array([[5 + 20 * told, 10, 40, 40]], np.float32)
            found.append(Detections(box, np.array([0.3 + 0.6 * told], np.float32), np.array([2], np.int16)))
        return found


@pytest.fixture(scope="module", params=["h264", "h265", "mp4"])
def log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds of two or three cameras at 10 Hz, a key frame a second; in the MP4 files with B-frames."""
    folder = tmp_path_factory.mktemp("log")
    if request.param == "mp4":
        for name in ("left", "right"):
            write_video(folder / f"{name}.mp4", SECONDS * 10, b_frames=2)
        return folder
    settings = SimulateSettings(
        preset="front",
        size_px=(128, 96),
        duration_s=SECONDS,
        image=request.param,
        container="foxglove" if request.param == "h265" else "mcap",
        faults=Faults(drop=0.02),
        noise=False,
    )
    return simulate(folder / "drive", settings, stage=flat_stage())


def job(log: Path, out: Path, *overrides: str, **changes: Any) -> Job:
    paths = tuple(sorted(log.glob("*.mp4"))) if log.is_dir() and list(log.glob("*.mp4")) else (log,)
    return Job("drive", paths, out, load_config(None, [*SETTINGS, *overrides]), **changes)


def tables(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.suffix in (".parquet", ".jsonl", ".npz")}


def pictures(path: Path) -> list[tuple[int, bytes]]:
    with av.open(str(path)) as video:
        return [(f.pts or 0, f.to_ndarray(format="rgb24").tobytes()) for f in video.decode(video=0)]


def decoded(caplog: pytest.LogCaptureFixture) -> tuple[int, int]:
    """Packets decoded, and packets in the log, of the last run that did not decode all."""
    found = re.findall(r"video: (\d+) of (\d+) packets were decoded", caplog.text)
    return int(found[-1][0]), int(found[-1][1])


def stopped(log: Path, out: Path, *overrides: str) -> Path:
    """A run that was stopped when about nine seconds were done."""
    work = job(log, out, *overrides, threads=False)
    with pytest.raises(KeyboardInterrupt):
        run_drive(work, StopsAfter(90), open_with=PixelDetector)
    return work.directory


def landed(directory: Path) -> list[str]:
    return sorted(p.name for p in (directory / ".segments").glob("detect_*.zip"))


@pytest.fixture(scope="module")
def whole(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run that nothing stopped; its segments are kept."""
    out = tmp_path_factory.mktemp("whole")
    return run_drive(job(log, out, NO_VIDEO, "runs.keep_segments=true"), open_with=PixelDetector)


def alike(done: Outcome, whole: Outcome) -> bool:
    assert tables(done.directory) == tables(whole.directory)
    assert done.manifest.counts == whole.manifest.counts
    assert done.manifest.losses == whole.manifest.losses
    assert done.manifest.sync == whole.manifest.sync
    return True


def test_a_run_goes_on_at_the_key_frame_before_what_is_missing(
    log: Path, whole: Outcome, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="perception_batch")
    assert "detect_00003.zip" in landed(stopped(log, tmp_path, NO_VIDEO))
    assert "packets were decoded" not in caplog.text
    again = run_drive(job(log, tmp_path, NO_VIDEO), open_with=PixelDetector)
    some, every = decoded(caplog)
    assert every == whole.manifest.counts["frames_in_log"]
    # Eight seconds had landed of twelve. Before the rest come what may belong to its first timestep, and the group of
    # pictures in which that begins.
    assert some <= every * (4 + 2.2) / SECONDS
    assert alike(again, whole)


def test_what_is_not_drawn_yet_is_decoded_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="perception_batch")
    for name in ("left", "right"):
        write_video(tmp_path / f"{name}.mp4", SECONDS * 10, b_frames=2)
    whole = run_drive(job(tmp_path, tmp_path / "whole"), open_with=PixelDetector)
    stopped(tmp_path, tmp_path / "cut")
    again = run_drive(job(tmp_path, tmp_path / "cut"), open_with=PixelDetector)
    some, every = decoded(caplog)
    assert some <= every * (6 + 2.2) / SECONDS
    assert alike(again, whole)
    assert pictures(again.directory / "annotated.mp4") == pictures(whole.directory / "annotated.mp4")


def test_a_segment_that_is_missing_in_the_middle_is_decoded_alone(
    log: Path, whole: Outcome, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="perception_batch")
    shutil.copytree(whole.directory, tmp_path / "drive")
    manifest = tmp_path / "drive" / "run.json"
    for gone in (2, None):
        manifest.write_text(manifest.read_text().replace('"status": "complete"', '"status": "unfinished"'))
        if gone is not None:
            (tmp_path / "drive" / ".segments" / f"detect_{gone:05d}.zip").unlink()
        PixelDetector.images = 0
        again = run_drive(job(log, tmp_path, NO_VIDEO, "runs.keep_segments=true"), open_with=PixelDetector)
        some, every = decoded(caplog)
        assert (PixelDetector.images > 0) == (gone is not None)
        # Two seconds, what may belong to its first and last timestep, and the rest of the groups of pictures at its ends;
        # and the last second: the log ends where one more segment begins, which holds no timestep.
        assert some <= every * (1 if gone is None else 6.5) / SECONDS
        assert alike(again, whole)


def test_segments_by_themselves_need_no_video_for_the_drive(
    log: Path, whole: Outcome, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="perception_batch")
    config = load_config(None, [*SETTINGS, NO_VIDEO])
    with KeptDetector(config.detect, PixelDetector) as kept:
        prepared = prepare_drive(job(log, tmp_path, NO_VIDEO), kept)
        for segment in reversed(prepared.missing):
            detect_segment(prepared, segment, kept)
        caplog.clear()
        done = run_drive(prepared.job, kept=kept)
    some, every = decoded(caplog)
    assert some <= every / SECONDS
    assert alike(done, whole)


def test_a_log_that_was_changed_in_its_middle_is_not_taken_for_what_it_was(
    log: Path, whole: Outcome, tmp_path: Path
) -> None:
    """What had landed goes, and the next run does it all."""
    shutil.copytree(whole.directory, tmp_path / "drive")
    manifest = tmp_path / "drive" / "run.json"
    manifest.write_text(manifest.read_text().replace('"status": "complete"', '"status": "unfinished"'))
    plan = read_plan(tmp_path / "drive")
    assert plan is not None
    store = SegmentStore(tmp_path / "drive", plan, Made("0" * 64, "patches", "fp32"))
    stored = store.read(1)
    assert stored is not None
    store.write(1, SegmentContent(stored.content.timesteps[1:]), stored.facts)
    with pytest.raises(WriteError, match="start again") as told:
        run_drive(job(log, tmp_path, NO_VIDEO), open_with=PixelDetector)
    assert told.value.exit_status == EXIT_RETRY
    assert landed(tmp_path / "drive") == []
    assert alike(run_drive(job(log, tmp_path, NO_VIDEO), open_with=PixelDetector), whole)


# ---------------------------------------------------------------------- what a segment's file says of its video

MADE = Made("w", "torch", "fp32")
BOX = Detections(np.ones((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int16))


def plan(count: int = 6) -> SegmentPlan:
    return SegmentPlan("f", "d", 0, 100, 0, count, 10, 20, None, {})


def frame(stamp_ns: int, payload: Any = None) -> EncodedFrame:
    return EncodedFrame("a", stamp_ns, stamp_ns, payload or StillPayload(b""), "h264", 0, 4, 4, stamp_ns)


def land(folder: Path, segments: dict[int, bool]) -> RunningSegments:
    """As a later run finds it: these have landed; False: without a word on their video, as older versions wrote them."""
    store = SegmentStore(folder, plan(), MADE)
    store.begin()
    for segment, told in segments.items():
        step = DetectedTimestep(
            100 * segment, {"a": "ok"}, {"a": 100 * segment}, {"a": BOX}, {"a": (4, 4)}, {}
        )
        store.write(segment, SegmentContent((step,)), {VIDEO_AS_TOLD: True} if told else {})
    return RunningSegments(SegmentStore(folder, plan(), MADE))


@pytest.mark.parametrize(
    ("segments", "drawn", "stored"),
    [
        ({}, set(), []),
        ({0: True}, set(), [(-1000, 90)]),
        ({0: True, 1: True}, set(), [(-1000, 190)]),
        ({2: True}, set(), [(220, 290)]),
        ({5: True}, set(), [(520, 10_000)]),
        ({1: True, 3: True, 4: True}, set(), [(120, 190), (320, 490)]),
        ({1: True, 2: False, 3: True}, set(), [(120, 190), (320, 390)]),
        ({1: True, 2: True, 3: True}, {2}, [(120, 190), (320, 390)]),
        (dict.fromkeys(range(6), True), set(), [(-1000, 10_000)]),
    ],
)
def test_what_only_segments_read_that_have_landed_needs_no_decoding(
    tmp_path: Path, segments: dict[int, bool], drawn: set[int], stored: list[tuple[int, int]]
) -> None:
    is_stored = land(tmp_path, segments).stored_video(lambda stamp_ns: stamp_ns // 100 in drawn)
    for stamp_ns in [*range(-1000, 0, 100), *range(700), 9999]:
        assert is_stored(stamp_ns) == any(low <= stamp_ns < high for low, high in stored), stamp_ns


def detected(stamp_ns: int) -> DetectedStep:
    step = Step(FrameSet(0, stamp_ns, {"a": frame(stamp_ns)}, {"a": "ok"}), None, {}, ())
    return DetectedStep(step, {"a": BOX}, {"a": (4, 4)}, {}, {})


@pytest.mark.parametrize("late", [False, True])
def test_a_frame_that_is_not_as_told_is_noted_in_its_segment(tmp_path: Path, *, late: bool) -> None:
    dropped: list[Path] = []
    segments = RunningSegments(SegmentStore(tmp_path, plan(), MADE), on_dropped=dropped.append)
    landing = segments.landing(detected(stamp_ns) for stamp_ns in (0, 110, 220, 330))
    for _ in range(2 if late else 1):
        next(landing)
    segments.note_video(frame(30))
    list(landing)
    store = SegmentStore(tmp_path, plan(), MADE)
    if late:  # its file said otherwise when it was heard of
        assert store.landed() == [1, 2, 3]
        assert [path.name for path in dropped] == ["detect_00000.zip"]
    else:
        assert store.landed() == [0, 1, 2, 3]
        assert dropped == []
    told = [k for k in store.landed() if (found := store.read(k)) and found.facts[VIDEO_AS_TOLD]]
    assert told == [1, 2, 3]
