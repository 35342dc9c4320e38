"""Each format, read back by a reader of its own: what goes in comes out, no box moved by half a pixel."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from label_sets import CLASSES, drawn_images, few_images, label_box, label_image, write_set

from perception_batch.errors import EXIT_RETRY, ConfigError, WriteError
from perception_batch.labels.formats import FORMATS, Format, open_writer
from perception_batch.labels.label_types import LabelImage

Box = tuple[str, bool, tuple[float, float, float, float]]
"""Class, ignored, x1 y1 x2 y2."""


def read_yolo(folder: Path, images: list[LabelImage]) -> dict[str, list[Box]]:
    """By image, read as Ultralytics' documentation describes it; ignored boxes from the sidecar."""
    names = yaml.safe_load((folder / "data.yaml").read_text())["names"]
    ignored = json.loads((folder / "ignored.json").read_text())["images"]
    read: dict[str, list[Box]] = {}
    for image in images:
        boxes = read[image.name] = []
        w, h = image.width_px, image.height_px
        for line in (folder / "labels" / image.split / f"{image.name}.txt").read_text().splitlines():
            index, cx, cy, bw, bh = line.split()
            x, y, dx, dy = float(cx) * w, float(cy) * h, float(bw) * w / 2, float(bh) * h / 2
            boxes.append((names[int(index)], False, (x - dx, y - dy, x + dx, y + dy)))
        entries = ignored.pop(f"images/{image.split}/{image.name}{image.suffix}", [])
        boxes.extend((entry["label"], True, tuple(entry["box_px"])) for entry in entries)
    assert not ignored
    return read


def read_coco(folder: Path, images: list[LabelImage]) -> dict[str, list[Box]]:
    """By image, read by pycocotools."""
    from pycocotools.coco import COCO

    read: dict[str, list[Box]] = {}
    for split in {image.split for image in images}:
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(str(folder / "annotations" / f"instances_{split}.json"))
        for key in coco.getImgIds():
            boxes = read[Path(coco.imgs[key]["file_name"]).stem] = []
            for entry in coco.loadAnns(coco.getAnnIds(imgIds=[key])):
                x, y, w, h = entry["bbox"]
                assert w > 0 and h > 0 and entry["area"] == pytest.approx(w * h, abs=1e-3)
                name = coco.cats[entry["category_id"]]["name"]
                boxes.append((name, bool(entry["iscrowd"]), (x, y, x + w, y + h)))
    return read


def read_kitti(folder: Path, images: list[LabelImage]) -> dict[str, list[Box]]:
    """By image, after the devkit's readme."""
    read: dict[str, list[Box]] = {}
    for image in images:
        stem = image.name.replace(".", "_")
        assert stem in (folder / "ImageSets" / f"{image.split}.txt").read_text().split()
        boxes = read[image.name] = []
        for line in (folder / "training" / "label_2" / f"{stem}.txt").read_text().splitlines():
            words = line.split()
            assert len(words) == 15
            assert words[1:4] == ["-1", "-1", "-10"] and words[8:] == ["-1"] * 3 + ["-1000"] * 3 + ["-10"]
            x1, y1, x2, y2 = map(float, words[4:8])
            boxes.append((words[0].replace("_", " "), words[0] == "DontCare", (x1, y1, x2, y2)))
    return read


READERS: dict[str, Any] = {"yolo": read_yolo, "coco": read_coco, "kitti": read_kitti}


@pytest.mark.parametrize("format_name", FORMATS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(images=drawn_images())
def test_a_round_trip_moves_no_box_by_half_a_pixel(format_name: Format, images: list[LabelImage]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "set"
        writer = open_writer(format_name, folder, CLASSES)
        for image in images:
            writer.add(image)
        for path in writer.close():
            assert path.is_file()
        assert not list(folder.rglob("*.partial")) and not list(folder.rglob("*.annotations*"))
        read = READERS[format_name](folder, images)
    assert set(read) == {image.name for image in images}
    for image in images:
        written = sorted(image.boxes, key=lambda box: (box.band, box.box_px))
        back = sorted(read[image.name], key=lambda box: (box[1], box[2]))
        assert len(back) == len(written)
        for box, (_, ignored, _) in zip(written, back, strict=True):
            assert ignored == (box.band == "ignored")
        # The order may change where rounding makes two equal, so each is looked for by itself.
        for box in written:
            dont_care = format_name == "kitti" and box.band == "ignored"
            label = "DontCare" if dont_care else box.label
            apart = min(
                max(abs(a - b) for a, b in zip(box.box_px, xyxy, strict=True))
                for name, ignored, xyxy in back
                if name == label and ignored == (box.band == "ignored")
            )
            assert apart < 0.05
        for _, _, (x1, y1, x2, y2) in back:
            assert x1 < x2 and y1 < y2


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_same_images_give_the_same_bytes(format_name: Format, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_set(tmp_path / name, format_name, few_images())
    one, two = tmp_path / "one", tmp_path / "two"
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    for file in files:
        assert (one / file).read_bytes() == (two / file).read_bytes(), file


def test_ultralytics_own_check_finds_nothing_to_say(tmp_path: Path) -> None:
    from ultralytics.data.utils import check_det_dataset, img2label_paths, verify_image_label

    images = few_images()
    write_set(tmp_path, "yolo", images)
    data = check_det_dataset(str(tmp_path / "data.yaml"))
    assert data["names"] == dict(enumerate(CLASSES))
    for image in images:
        path = Path(data[image.split]) / (image.name + image.suffix)
        label = img2label_paths([path])[0]
        _, rows, shape, _, _, missing, found, empty, corrupt, message = verify_image_label(
            (str(path), label, "", False, len(CLASSES), 0, 0, False)
        )
        accepted = [box for box in image.boxes if box.band == "accepted"]
        assert (missing, found, empty, corrupt, message) == (0, 1, not accepted, 0, "")
        assert shape == (image.height_px, image.width_px)
        assert len(rows) == len(accepted)


# Where Ray is installed Ultralytics asks it for a trial, and Ray says that there is none: not about the set.
@pytest.mark.filterwarnings("ignore:.get_trial_id. is meant to only be called:UserWarning")
def test_ultralytics_trains_an_epoch_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    import torch
    from ultralytics import YOLO
    from ultralytics.utils import LOGGER, SETTINGS

    folder = tmp_path / "set"
    write_set(folder, "yolo", few_images())
    lines: list[str] = []
    monkeypatch.setattr(LOGGER, "warning", lambda text, *a, **k: lines.append(str(text)))
    monkeypatch.chdir(tmp_path)
    assert SETTINGS is not None
    threads = torch.get_num_threads()
    try:
        YOLO("yolo11n.yaml").train(
            data=str(folder / "data.yaml"),
            epochs=1,
            imgsz=64,
            batch=2,
            workers=0,
            device="cpu",
            plots=False,
            verbose=False,
            amp=False,
            project=str(tmp_path / "runs"),
        )
    finally:
        torch.set_num_threads(threads)
    assert lines == []
    assert (tmp_path / "runs" / "train" / "weights" / "last.pt").is_file()


def test_torchvision_reads_the_kitti_labels(tmp_path: Path) -> None:
    from torchvision.datasets import Kitti

    images = few_images()
    write_set(tmp_path / "Kitti" / "raw", "kitti", images)
    read = Kitti(str(tmp_path), train=True)
    assert len(read) == len(images)
    kinds = []
    for picture, target in (read[i] for i in range(len(read))):
        picture.close()
        kinds += [entry["type"] for entry in target]
    assert sorted(kinds) == ["DontCare", "car", "car", "person", "person", "traffic_light"]


@pytest.mark.parametrize(
    ("box", "words"),
    [
        (label_box((5, 5, 5, 9)), "side below"),
        (label_box((5, 9, 7, 5)), "side below"),
        (label_box((-1, 5, 7, 9)), "outside"),
        (label_box((5, 5, 65, 9)), "outside"),
        (label_box((5, math.nan, 7, 9)), "not finite"),
        (label_box((5, 5, 7, 9), class_index=2), "of class 2; the set has 2"),
    ],
)
@pytest.mark.parametrize("format_name", FORMATS)
def test_a_box_that_no_format_can_hold_is_refused(
    format_name: Format, box: Any, words: str, tmp_path: Path
) -> None:
    writer = open_writer(format_name, tmp_path, CLASSES[:2])
    with pytest.raises(ValueError, match=words):
        writer.add(label_image("a", [box]))
    writer.discard()
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("name", ["../a", "a/b", ".a", "", "a b", "a\n", "x" * 201])
@pytest.mark.parametrize("format_name", FORMATS)
def test_a_name_that_is_no_file_name_is_refused(format_name: Format, name: str, tmp_path: Path) -> None:
    writer = open_writer(format_name, tmp_path, CLASSES)
    with pytest.raises(ValueError, match="a name needs"):
        writer.image_path(label_image(name))
    writer.discard()


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    for format_name in FORMATS:
        folder = tmp_path / format_name
        write_set(folder, format_name, few_images())
        again = open_writer(format_name, folder, CLASSES)
        with pytest.raises(FileExistsError):
            again.add(few_images()[0])
        again.discard()


def test_kitti_names_that_would_be_one_are_refused(tmp_path: Path) -> None:
    for classes in (["traffic light", "traffic_light"], ["DontCare"], ["Dont Care", "DontCare"]):
        with pytest.raises(ConfigError, match="--class-map"):
            open_writer("kitti", tmp_path, classes)
    writer = open_writer("kitti", tmp_path, CLASSES)
    writer.add(label_image("drive.1_a"))
    with pytest.raises(FileExistsError):  # KITTI's names have no dots
        writer.add(label_image("drive_1_a"))
    writer.discard()


@pytest.mark.parametrize("classes", [[], [""], ["car", "car"], ["a\nb"]])
def test_classes_that_no_format_can_hold_are_refused(classes: list[str], tmp_path: Path) -> None:
    for format_name in FORMATS:
        with pytest.raises(ConfigError):
            open_writer(format_name, tmp_path, classes)


def test_pre_labels_need_coco(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no room for scores"):
        open_writer("yolo", tmp_path, CLASSES, pre_labels=True)
    writer = open_writer("coco", tmp_path, CLASSES, pre_labels=True)
    for image in few_images():
        writer.add(image)
    train, val = (json.loads(path.read_text()) for path in writer.close())
    assert {entry["band"] for entry in train["annotations"]} == {"accepted", "ignored"}
    assert all(entry["iscrowd"] == 0 for entry in train["annotations"])
    assert [entry.get("score") for entry in val["annotations"]] == [0.8, None]
    with pytest.raises(ConfigError, match="yolo, coco, kitti"):
        open_writer("voc", tmp_path, CLASSES)  # type: ignore[arg-type]


@pytest.mark.parametrize("format_name", FORMATS)
def test_memory_does_not_grow_with_the_images(format_name: Format, tmp_path: Path) -> None:
    writer = open_writer(format_name, tmp_path, CLASSES)
    boxes = [label_box((1, 1, 20, 20)), label_box((4, 4, 40, 30), 0, "ignored")]
    for i in range(200):
        writer.add(label_image(f"warm_{i}", boxes))
    tracemalloc.start()
    try:
        for i in range(1500):
            writer.add(label_image(f"i_{i}", boxes))
        grown, _ = tracemalloc.get_traced_memory()
        writer.close()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 100_000  # a hundred bytes an image would be 150,000
    assert peak < 4_000_000  # two pieces of a megabyte while parts are joined


def test_numpy_numbers_are_numbers(tmp_path: Path) -> None:
    box = label_box(tuple(np.float32([1, 2, 30, 40])), score=np.float32(0.5))  # type: ignore[arg-type]
    for format_name in FORMATS:
        folder = tmp_path / format_name
        writer = open_writer(format_name, folder, CLASSES)
        writer.add(label_image("a", [box]))
        writer.close()
        image = label_image("a", [box])
        assert READERS[format_name](folder, [image])["a"][0][2] == pytest.approx((1, 2, 30, 40), abs=1e-4)


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_full_disk_is_worth_another_try(
    format_name: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    writer = open_writer(format_name, tmp_path, CLASSES)
    writer.add(few_images()[0])
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WriteError, match="the disk is full") as caught:
        writer.close()
    assert caught.value.exit_status == EXIT_RETRY
    writer.discard()
    assert not list(tmp_path.rglob("*.partial*"))
