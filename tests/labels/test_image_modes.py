"""How an image file of the set relates to that of the log: copy, hard link, symlink; and links that cannot be."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import pyarrow.parquet as pq
import pytest
from noisy_run import write_noisy_run

from perception_batch.cli import main
from perception_batch.config import load_config
from perception_batch.errors import WriteError
from perception_batch.labelling import MARKER, make_labels
from perception_batch.labels.check import check_dataset
from perception_batch.labels.label_settings import LabelSettings, PerClass
from perception_batch.read import open_log
from perception_batch.simulate.detector_noise import CorrelatedNoise
from perception_batch.types import EncodedFrame, StillPayload

EASY = LabelSettings(accept=PerClass(0.5), ignore=PerClass(0.1), guard_s=0.2, duplicate_bits=-1)
TAIL = 3
"""This many images have bytes after their end, which must not come along."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that is a folder of JPEG files, and a run of it in ``run``."""
    folder = tmp_path_factory.mktemp("modes") / "drawn"
    words = ["--duration", "2", "--preset", "front", "--size", "320x200", "--seed", "3", "--no-noise"]
    assert main(["simulate", str(folder), *words]) == 0
    recorded = next(path for path in sorted((folder / "drive").iterdir()) if path.suffix == ".mcap")
    config = load_config(None, [])
    with open_log([recorded], config.read, config.cameras) as log:
        frames = [item for item in log.stream(log.select(None)) if isinstance(item, EncodedFrame)]
    for number, frame in enumerate(frames):
        assert isinstance(frame.payload, StillPayload)
        path = folder / "pictures" / frame.camera / f"{frame.stamp_ns}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(frame.payload.data) + (bytes(7) if number < TAIL else b""))
    write_noisy_run(folder / "truth", folder / "run" / "drive", CorrelatedNoise(3), log=folder / "pictures")
    return folder


def images_of(out: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(out / "images.parquet").to_pylist()
    assert rows
    return rows


def recorded_files(drawn: Path) -> dict[int, Path]:
    return {int(path.stem): path for path in (drawn / "pictures").rglob("*.jpg")}


@pytest.mark.parametrize(
    ("mode", "form"), [("copy", "yolo"), ("hardlink", "coco"), ("symlink", "kitti"), ("symlink", "yolo")]
)
def test_each_mode_gives_the_same_set(drawn: Path, tmp_path: Path, mode: str, form: str) -> None:
    out = tmp_path / "set"
    make_labels([drawn / "run"], out, replace(EASY, images=mode, format=form))  # type: ignore[arg-type]
    report = check_dataset(out)
    assert report.ok, report.as_text()
    recorded = recorded_files(drawn)
    cleaned = sorted(recorded)[:TAIL]
    links = 0
    for row in images_of(out):
        path, source = out / str(row["file"]), recorded[int(str(row["frame_stamp_ns"]))]
        linked = mode != "copy" and int(source.stem) not in cleaned
        links += linked
        assert row["source"] == ("linked" if linked else "copied")
        assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert source.read_bytes().startswith(path.read_bytes())
        assert cv2.imread(str(path)) is not None
        assert path.is_symlink() == (linked and mode == "symlink")
        assert path.samefile(source) == linked
    assert bool(links) == (mode != "copy")
    by_source = json.loads((out / "card.json").read_text())["images"]["by_source"]
    assert by_source.get("linked", 0) == links


def test_a_set_of_links_says_when_its_log_changed_or_is_gone(drawn: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    make_labels([drawn / "run"], out, replace(EASY, images="symlink"))
    link = next(path for path in sorted((out / "images").rglob("*.jpg")) if path.is_symlink())
    target = link.resolve()
    link.unlink()
    link.symlink_to(tmp_path / "gone.jpg")
    assert "pair-missing" in check_dataset(out).counts
    link.unlink()
    other = next(path for path in recorded_files(drawn).values() if path.resolve() != target)
    link.symlink_to(other)
    assert "hash-differs" in check_dataset(out).counts


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM])
def test_a_hard_link_that_cannot_be_is_an_error_with_advice(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    out = tmp_path / "set"
    with monkeypatch.context() as patch:
        patch.setattr("os.link", refuse)
        with pytest.raises(WriteError, match="symlink or copy") as caught:
            make_labels([drawn / "run"], out, replace(EASY, images="hardlink"))
    assert os.strerror(number) in str(caught.value)
    assert caught.value.exit_status == 2
    assert (out / MARKER).exists()
    make_labels([drawn / "run"], out, EASY)  # takes the place of what was not finished
    assert check_dataset(out).ok


def test_a_hard_link_to_another_file_system(drawn: Path, tmp_path: Path) -> None:
    other = Path("/dev/shm")  # noqa: S108  memory, where Linux has it
    if not os.access(other, os.W_OK) or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system to write to")
    import tempfile

    with tempfile.TemporaryDirectory(dir=other) as folder:
        out = Path(folder) / "set"
        words = ["labels", str(drawn / "run"), "--out", str(out), "--accept", "0.5", "--guard-s", "0.2"]
        assert main([*words, "--images", "hardlink"]) == 2
        assert main([*words, "--images", "symlink"]) == 0
        assert check_dataset(out).ok


def test_overwriting_a_set_of_links_leaves_the_log_alone(drawn: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in recorded_files(drawn).values()}
    for mode in ("hardlink", "symlink", "copy"):
        settings = replace(EASY, images=mode)
        make_labels([drawn / "run"], tmp_path / "set", settings, overwrite=True)
    assert {path: path.read_bytes() for path in recorded_files(drawn).values()} == before
