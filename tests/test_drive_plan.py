"""The plan of a real log, frozen and read back; and the examples of schedules."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from log_writer import CameraSpec, write_log

from perception_batch.config import RunConfig, override_config
from perception_batch.drive_plan import freeze_plan, sync_plan
from perception_batch.job import Job, OpenDrive, identity, open_drive
from perception_batch.runs import SegmentPlan
from perception_batch.sync import SyncPlan, synchronize
from perception_batch.types import EncodedFrame, FrameSet

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("start", [None, "3"])
def test_a_plan_of_a_log_is_frozen_and_thaws_equal(tmp_path: Path, start: str | None) -> None:
    cameras = [CameraSpec("front"), CameraSpec("back", rate_hz=5.0)]
    log = write_log(tmp_path / "log", "mcap", cameras, frames=71)
    config = override_config(RunConfig(), ["runs.segment_s=2"])
    job = Job("a", (log,), tmp_path / "out", config, start=start)
    with open_drive(job) as opened:
        wanted = identity(job, opened, "w")
        plan = freeze_plan(opened, config, wanted)
        again = SegmentPlan.from_json(plan.to_json(), tmp_path)
        assert again == plan
        assert again.hash == freeze_plan(opened, config, wanted).hash
        assert sync_plan(again) == opened.plan
        assert plan.origin_ns == opened.head.first_stamp_ns
        assert list(plan.wanted()) == list(range(0 if start is None else 1, 8))
        stamps = [f.stamp_ns for f in opened.log.stream(opened.selected) if hasattr(f, "camera")]
        assert {plan.segment_of(s) for s in stamps} == set(plan.wanted())
    with pytest.raises(ValueError, match="of another version"):
        sync_plan(SegmentPlan.from_json(plan.to_json().replace('"epoch_ns"', '"epoch"'), tmp_path))


def timesteps(opened: OpenDrive, start_ns: int | None, stop_ns: int | None, plan: SyncPlan) -> list[FrameSet]:
    """What reading this range gives, grouped by this plan."""
    synchronizer = opened.synchronizer(plan)
    frames = [i for i in opened.log.stream(opened.selected, start_ns, stop_ns) if isinstance(i, EncodedFrame)]
    return list(synchronize(frames, synchronizer))


@pytest.mark.parametrize("container", ["mcap", "bag1"])
def test_each_segment_read_alone_gives_the_timesteps_of_the_whole(tmp_path: Path, container: str) -> None:
    """In another process, from the frozen plan: same stamps, same frames, same statuses."""
    cameras = [
        CameraSpec("front", drop=(33, 34)),
        CameraSpec("left", phase_ms=31, drop=(20, 41)),
        CameraSpec("slow", rate_hz=5.0, phase_ms=12),
    ]
    log = write_log(tmp_path / "log", container, cameras, frames=90)  # type: ignore[arg-type]
    config = override_config(RunConfig(), ["runs.segment_s=2"])
    job = Job("a", (log,), tmp_path / "out", config)
    with open_drive(job) as opened:
        plan = freeze_plan(opened, config, identity(job, opened, "w"))
        whole = timesteps(opened, None, None, opened.plan)
    text = plan.to_json()
    found: list[FrameSet] = []
    for segment in plan.wanted():
        again = SegmentPlan.from_json(text, tmp_path)
        with open_drive(job) as opened:
            steps = timesteps(opened, *again.reading_ns(segment), sync_plan(again))
            found += [step for step in steps if again.segment_of(step.stamp_ns) == segment]
    assert len({plan.segment_of(step.stamp_ns) for step in whole}) > 3

    def seen(step: FrameSet) -> object:
        return step.stamp_ns, step.status, {n: f.stamp_ns for n, f in step.frames.items()}

    assert [seen(step) for step in found] == [seen(step) for step in whole]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_the_timer_and_its_service_are_valid(tmp_path: Path) -> None:
    for name in ("perception-batch.service", "perception-batch.timer"):
        text = (ROOT / "configs" / "systemd" / name).read_text()
        (tmp_path / name).write_text(text.replace("ExecStart=perception-batch", "ExecStart=/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / "perception-batch.timer")],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Failed to" in done.stderr and "perception-batch" not in done.stderr:
        pytest.skip(f"systemd-analyze does not work here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def test_examples_call_the_command_with_words_it_knows() -> None:
    from perception_batch.cli import build_parser

    service = (ROOT / "configs" / "systemd" / "perception-batch.service").read_text()
    (line,) = [text for text in service.splitlines() if text.startswith("ExecStart=")]
    cron = (ROOT / "configs" / "cron.example").read_text()
    (job,) = [text for text in cron.splitlines() if text.startswith("30 1 ")]
    for words in (line.removeprefix("ExecStart="), job.partition(" nice -n 10 ")[2].partition(" >>")[0]):
        _, *rest = words.replace("'", "").split()
        arguments = build_parser().parse_args(rest)
        assert arguments.drive_name == "{parent}_{stem}"
    assert "%" not in job
