"""`compare`: what two runs of one drive found differently, against changes that were made on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from log_writer import CameraSpec, write_log
from patch_detector import PatchDetector, patches

from perception_batch import pipeline
from perception_batch.cli import main
from perception_batch.config import load_config
from perception_batch.job import Job
from perception_batch.pipeline import run_drive

SETTINGS = ["detect.image_size=160", "render.video=false"]


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Runs the drive (or another) with patches for a network."""
    monkeypatch.setattr(pipeline, "open_detector", PatchDetector)
    common: dict[str, Any] = {"size": (160, 96), "draw": patches, "encoding": "png"}
    cameras = [CameraSpec("cam_front", **common), CameraSpec("cam_left", yaw_deg=90, **common)]
    log = write_log(tmp_path / "in", "mcap", cameras, frames=12)
    other = write_log(tmp_path / "other", "mcap", cameras, frames=10)

    def run(name: str, *overrides: str, of_other: bool = False, **changes: Any) -> Path:
        job = Job(
            "drive",
            (other if of_other else log,),
            tmp_path / name,
            load_config(None, [*SETTINGS, *overrides]),
        )
        return run_drive(replace(job, **changes)).directory

    return run


def compared(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert main(["compare", *map(str, words), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def rewrite(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    table = pq.read_table(path)
    pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), schema=table.schema), path)


def test_two_equal_runs_differ_in_nothing(
    make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = make_run("a"), make_run("b")
    found = compared(capsys, a, b)
    assert found["frames"] == 24
    assert found["differing_frames"] == found["frames_only_a"] == found["frames_only_b"] == 0
    assert found["worst"] == [] and found["made_by"] == {}
    assert found["classes_lost"] == found["classes_gained"] == []
    for by_label in found["counts"].values():
        for count in by_label.values():
            assert count["a"] == count["b"] == count["same"] > 0
            assert count["lost"] == count["gained"] == count["relabelled"] == 0
    assert all(t["a"] == t["b"] == t["same"] > 0 for t in found["tracks"].values())


def test_what_was_changed_on_purpose_is_found(
    make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = make_run("a"), make_run("b")

    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in rows:
            if row["camera"] == "cam_front" and row["timestep"] == 3 and row["label"] == "car":
                row["label"] = "truck"
            if row["camera"] == "cam_left" and row["timestep"] == 5:
                for edge in ("x1", "x2"):
                    row[edge] += 70.0  # so far that no half of it is left
            if row["camera"] == "cam_left" and row["timestep"] == 6:
                row["x1"] += 1.0
                row["score"] -= np.float32(0.125)
        return rows

    rewrite(b / "detections.parquet", change)
    found = compared(capsys, a, b, "--frames", "2")
    left, front = found["counts"]["cam_left"], found["counts"]["cam_front"]
    assert (left["car"]["lost"], left["car"]["gained"], left["car"]["same"]) == (1, 1, 11)
    assert (left["person"]["lost"], left["person"]["gained"]) == (1, 1)
    assert (front["car"]["same"], front["car"]["relabelled"], front["car"]["lost"]) == (11, 1, 0)
    assert (front["truck"]["b"], front["truck"]["gained"]) == (1, 0)
    assert found["relabelled"] == {"car -> truck": 1}
    assert (found["classes_lost"], found["classes_gained"]) == ([], ["truck"])
    assert found["differing_frames"] == 2
    assert [(f["camera"], f["timestep_a"], len(f["changes"])) for f in found["worst"]] == [
        ("cam_left", 5, 4),
        ("cam_front", 3, 1),
    ]
    assert found["score_difference"] == pytest.approx(0.125, abs=1e-6)
    assert found["edge_difference_px"] == pytest.approx(1.0, abs=1e-4)
    assert main(["compare", str(a), str(b)]) == 0
    text = capsys.readouterr().out
    assert "relabelled: car -> truck 1" in text and "classes that only B found: truck" in text
    assert text.index("cam_left, timestep 5") < text.index("cam_front, timestep 3")


def test_a_box_below_the_other_runs_score_is_lost_but_said_to_be_kept(
    make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = make_run("a"), make_run("b", "detect.score=0.85")  # people have 0.8
    found = compared(capsys, a, b)
    assert found["made_by"] == {"detect.score": ["0.25", "0.85"]}
    person = found["counts"]["cam_front"]["person"]
    assert person["lost"] == person["lost_kept"] == person["a"] == 12
    assert person["b"] == person["gained"] == 0 and person["tracks_lost"] == person["tracks_a"] == 1
    assert found["tracks"]["person"]["lost"] == found["tracks"]["person"]["a"] > 0
    assert found["classes_lost"] == ["person"]
    assert found["counts"]["cam_front"]["car"]["same"] == 12
    turned = compared(capsys, b, a)
    assert turned["counts"]["cam_front"]["person"]["gained_kept"] == 12
    assert turned["classes_gained"] == ["person"]
    every = compared(capsys, a, b, "--score", "0.5")
    assert every["differing_frames"] == 0 and every["counts"]["cam_front"]["person"]["same"] == 12


def test_only_common_frames_count(make_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    a, b = make_run("a"), make_run("b", start="0.35", cameras=("cam_left",))
    found = compared(capsys, a, b)
    assert 0 < found["frames"] < 12
    assert (found["frames_only_a"], found["frames_only_b"]) == (24 - found["frames"], 0)
    assert found["differing_frames"] == 0 and list(found["counts"]) == ["cam_left"]
    assert {"--cameras", "--start"} <= found["made_by"].keys()


def test_what_cannot_be_compared_is_refused_in_one_line(
    make_run: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, other = make_run("a"), make_run("b", of_other=True)
    front, left = make_run("front", cameras=("cam_front",)), make_run("left", cameras=("cam_left",))
    (tmp_path / "empty").mkdir()
    broken = make_run("broken")
    (broken / "detections.parquet").write_bytes(b"PAR1 or so")
    for second, word in (
        (other, "another drive"),
        (tmp_path / "empty", "run.json is missing"),
        (tmp_path / "absent", "run.json is missing"),
        (broken, "cannot be read"),
    ):
        assert main(["compare", str(a), str(second)]) == 1
        said = capsys.readouterr()
        assert word in said.err and said.err.count("\n") == 1 and not said.out
    assert main(["compare", str(front), str(left)]) == 1
    assert "no camera frame in common" in capsys.readouterr().err
    assert main(["compare", str(a), str(a), "--score", "7"]) == 2
