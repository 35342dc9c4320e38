"""Tables joined from segments are those of an uninterrupted run, to the byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from runs.segment_samples import frame_rows, pose
from write.drive_of_results import FACTS, STEP_NS, drive

from perception_batch.runs.segment_content import DetectedTimestep, SegmentContent
from perception_batch.runs.segment_store import Made, SegmentStore
from perception_batch.runs.segments import SegmentPlan
from perception_batch.types import EgoPose, FrameRow, Fusion, PictureQuality, TimestepResult
from perception_batch.write import EgoWriter, FramesWriter, ResultTableWriter

N = 700  # more than two row groups of timesteps
NAMES = ("detections", "timesteps", "frames", "ego")
Item = tuple[TimestepResult, list[FrameRow], list[EgoPose]]


def write(folder: Path, items: Iterator[Item]) -> dict[str, bytes]:
    tables = [ResultTableWriter(folder, FACTS, name) for name in ("detections", "timesteps")]
    frames, ego = FramesWriter(folder, FACTS), EgoWriter(folder, FACTS)
    for result, rows, poses in items:
        for table in tables:
            table.write(result)
        frames.write(rows)
        ego.write(poses)
    for table in tables:
        table.close()
    frames.close()
    ego.close()
    return {name: (folder / f"{name}.parquet").read_bytes() for name in NAMES}


def detected(result: TimestepResult) -> DetectedTimestep:
    broken = {c: "broken_jpeg" for c, s in result.status.items() if s == "undecodable"}
    return DetectedTimestep(
        result.stamp_ns,
        result.status,
        result.frame_stamps_ns,
        result.detections,
        result.image_hw,
        broken,
        {c: PictureQuality(result.index / 2, 0.25, 0.0) for c in result.detections},
    )


@pytest.mark.parametrize("length", [7, 256, 1000])
def test_tables_from_segments_are_those_of_a_whole_run_to_the_byte(tmp_path: Path, length: int) -> None:
    results = drive(N)
    items = [(r, frame_rows(detected(r), r.index), [pose(r.stamp_ns, r.index)]) for r in results]
    whole = write(tmp_path / "whole", iter(items))
    plan = SegmentPlan("f", "d", results[0].stamp_ns, length * STEP_NS, 0, -(-N // length), 0, 0, None, {})
    store = SegmentStore(tmp_path / "run", plan, Made("w", "torch", "fp32"))
    store.begin()
    for segment in reversed(plan.wanted()):  # in whatever order the workers are done
        own = [item for item in items if plan.segment_of(item[0].stamp_ns) == segment]
        first = own[0][0].index
        rows = [replace(r, timestep=r.timestep - first if r.timestep >= 0 else -1) for i in own for r in i[1]]
        poses = [p for i in own for p in i[2]]
        store.write(segment, SegmentContent(tuple(detected(i[0]) for i in own), tuple(rows), tuple(poses)))

    def joined() -> Iterator[Item]:
        index = 0
        for segment in plan.wanted():
            stored = store.read(segment)
            assert stored is not None
            first, found = index, stored.content
            yield from _beside(found, first)
            index += len(found.timesteps)

    def _beside(found: SegmentContent, first: int) -> Iterator[Item]:
        rows = [replace(r, timestep=r.timestep + first if r.timestep >= 0 else -1) for r in found.rows]
        for number, step in enumerate(found.timesteps):
            last = number == len(found.timesteps) - 1
            yield (
                TimestepResult(
                    first + number,
                    step.stamp_ns,
                    step.status,
                    step.frame_stamps_ns,
                    step.detections,
                    Fusion((), {}, {}),
                    None,
                    step.image_hw,
                ),
                rows if last else [],
                list(found.poses) if last else [],
            )

    assert write(tmp_path / "joined", joined()) == whole
