"""From a drawn drive and noisy detections to a training set on the disk, and what is refused on the way."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from noisy_run import write_noisy_run

from perception_batch.cli import main
from perception_batch.config import load_config
from perception_batch.errors import ConfigError, LogError, WriteError
from perception_batch.labelling import MARKER, make_labels
from perception_batch.labels.check import check_dataset
from perception_batch.labels.label_settings import LabelSettings, PerClass
from perception_batch.read import open_log
from perception_batch.simulate.detector_noise import CorrelatedNoise
from perception_batch.types import EncodedFrame, StillPayload
from perception_batch.write import read_manifest, write_manifest

EASY = LabelSettings(accept=PerClass(0.5), ignore=PerClass(0.1), guard_s=0.5, duplicate_bits=-1)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of one camera, its truth, and a run of it in ``run``."""
    folder = tmp_path_factory.mktemp("labels") / "drawn"
    words = ["--duration", "5", "--preset", "front", "--size", "320x200", "--seed", "3", "--no-noise"]
    assert main(["simulate", str(folder), *words]) == 0
    write_noisy_run(folder / "truth", folder / "run" / "drive", CorrelatedNoise(3), log=log_of(folder))
    return folder


def log_of(folder: Path) -> Path:
    return next(path for path in sorted((folder / "drive").iterdir()) if path.suffix == ".mcap")


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("form", ["yolo", "coco", "kitti"])
def test_a_set_is_whole_and_its_counts_close(drawn: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "set"
    words = ["--accept", "0.5", "--ignore", "0.1", "--guard-s", "0.5", "--format", form]
    assert main(["labels", str(drawn / "run"), "--out", str(out), *words]) == 0
    report = check_dataset(out)
    assert report.ok, report.as_text()
    assert not (out / MARKER).exists()
    card = json.loads((out / "card.json").read_text())
    images = card["images"]
    assert images["kept"] > 0
    assert images["kept"] + sum(images["left_out"].values()) == images["frames_of_runs"] == 50
    rows = pq.read_table(out / "labels.parquet").to_pylist()
    for name, counts in card["labels"].items():
        own = [row for row in rows if row["label"] == name]
        assert counts["accepted"] == sum(row["band"] == "accepted" for row in own)
        assert counts["ignored"] == sum(row["band"] == "ignored" for row in own)
    assert all((row["score"] is None) == row["recovered"] == (row["detection"] is None) for row in rows)
    assert all(row["quality"] >= row["accept"] for row in rows if row["band"] == "accepted")
    assert (out / "card.md").read_text().startswith("# Training set")


def test_images_are_the_bytes_of_the_log(drawn: Path, tmp_path: Path) -> None:
    make_labels([drawn / "run"], tmp_path / "set", EASY)
    config = load_config(None, [])
    with open_log([log_of(drawn)], config.read, config.cameras) as log:
        frames = [item for item in log.stream(log.select(None)) if isinstance(item, EncodedFrame)]
    sent = {f.stamp_ns: bytes(f.payload.data) for f in frames if isinstance(f.payload, StillPayload)}
    rows = pq.read_table(tmp_path / "set" / "images.parquet").to_pylist()
    for row in rows:
        data = (tmp_path / "set" / row["file"]).read_bytes()
        assert data == sent[row["frame_stamp_ns"]]
        assert hashlib.sha256(data).hexdigest() == row["sha256"]


def test_blocks_of_time_keep_their_distance(drawn: Path, tmp_path: Path) -> None:
    outcome = make_labels([drawn / "run"], tmp_path / "set", EASY)
    rows = pq.read_table(tmp_path / "set" / "images.parquet").to_pylist()
    by_split: dict[str, list[int]] = {}
    for row in rows:
        by_split.setdefault(row["split"], []).append(row["frame_stamp_ns"])
    assert set(by_split) == {"train", "val", "test"}
    for one, stamps in by_split.items():
        for other, others in by_split.items():
            apart = min(abs(a - b) for a in stamps for b in others)
            assert one == other or apart >= 0.5e9
    assert any("blocks of time" in note for note in outcome.card["notes"])  # type: ignore[attr-defined]


def test_the_same_set_twice_is_the_same_to_the_byte(drawn: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_labels([drawn / "run"], tmp_path / name, replace(EASY, max_images=12, first="rare"))
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_what_exists_is_not_lost(drawn: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    make_labels([drawn / "run"], out, EASY)
    before = tree(out)
    with pytest.raises(WriteError, match="--overwrite"):
        make_labels([drawn / "run"], out, EASY)
    assert tree(out) == before
    make_labels([drawn / "run"], out, EASY, overwrite=True)
    assert tree(out) == before
    other = tmp_path / "photos"
    other.mkdir()
    (other / "me.jpg").write_bytes(b"x")
    with pytest.raises(WriteError, match="no training set"):
        make_labels([drawn / "run"], other, EASY, overwrite=True)
    assert (other / "me.jpg").exists()


def test_a_set_that_was_not_finished_is_marked_and_made_anew(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("perception_batch.labelling_writer.SetWriter._put", full)
        with pytest.raises(WriteError, match="full"):
            make_labels([drawn / "run"], tmp_path / "set", EASY)
    assert (tmp_path / "set" / MARKER).exists()
    assert not (tmp_path / "set" / "card.json").exists()
    make_labels([drawn / "run"], tmp_path / "set", EASY)
    assert check_dataset(tmp_path / "set").ok


def test_a_log_that_moved(drawn: Path, tmp_path: Path) -> None:
    run, moved = tmp_path / "run", tmp_path / "elsewhere"
    shutil.copytree(drawn / "run" / "drive", run)
    manifest = read_manifest(run)
    log = {**manifest.log, "paths": [f"/gone/{log_of(drawn).name}"]}
    write_manifest(run, replace(manifest, log=log))
    with pytest.raises(LogError, match="--log-root"):
        make_labels([run], tmp_path / "a", EASY)
    moved.mkdir()
    (moved / log_of(drawn).name).symlink_to(log_of(drawn))
    make_labels([run], tmp_path / "b", EASY, log_root=moved)
    write_manifest(run, replace(manifest, log={**log, "fingerprint": "other"}))
    with pytest.raises(LogError, match="fingerprint"):
        make_labels([run], tmp_path / "c", EASY, log_root=moved)


def test_classes_of_several_runs(drawn: Path, tmp_path: Path) -> None:
    second = write_noisy_run(drawn / "truth", tmp_path / "second", CorrelatedNoise(4), asked="[car, dog]")
    runs = [drawn / "run", second]
    with pytest.raises(ConfigError, match=r"different classes.*dog.*--class-map"):
        make_labels(runs, tmp_path / "a", EASY)
    roads = ["person", "bicycle", "car", "motorcycle", "bus", "train", "truck"]
    with pytest.raises(ConfigError, match="lacks dog"):
        make_labels(runs, tmp_path / "a", EASY, class_map=dict.fromkeys(roads, "thing"))
    with pytest.raises(ConfigError, match="runs of one log"):
        make_labels([drawn / "run", drawn / "run" / "drive"], tmp_path / "a", EASY)
    mapped = {**dict.fromkeys(roads, "vehicle"), "person": None, "train": "tram"}
    outcome = make_labels([drawn / "run"], tmp_path / "b", EASY, class_map=mapped)
    assert outcome.card["classes"] == ["vehicle", "tram"]
    assert any("tram" in note for note in outcome.card["notes"])  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="no class tank"):
        make_labels([drawn / "run"], tmp_path / "c", replace(EASY, accept=PerClass(0.5, {"tank": 0.4})))


def test_refused_options(drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = str(drawn / "run"), str(tmp_path / "set")
    for words, said in (
        (["labels", run], "--out DIR"),
        (["labels", run, "--out", out, "--split", "0.5,0.5,0.5"], "add up to 1"),
        (["labels", run, "--out", out, "--accept", "0.2"], "above --accept"),
        (["labels", run, "--out", out, "--images", "hardlink"], "container"),
        (["labels", run, "--out", out, "--group-by", "vehicle", "--vehicle", "car_x"], "does not fit"),
        (["labels", run, "--out", out, "--accept", "1"], "no image is left"),
    ):
        shutil.rmtree(out, ignore_errors=True)
        assert main(words) == 2
        assert said in capsys.readouterr().err
    assert main(["labels", str(tmp_path), "--out", out]) == 1
    assert main(["labels", "--check", str(drawn)]) == 1
