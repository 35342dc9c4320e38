"""The checker: a good set has no finding, each damage breaks its own rule, and hostile folders end in findings."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from label_sets import few_images, label_box, label_image, write_picture, write_set

from perception_batch.errors import ConfigError
from perception_batch.labels.check import check_dataset
from perception_batch.labels.check_report import RULES, FindingList
from perception_batch.labels.formats import FORMATS, Format
from perception_batch.labels.json_stream import BrokenJson, top_level_records

IMAGE = {
    "yolo": "images/train/a_front_1.png",
    "coco": "images/train/a_front_1.png",
    "kitti": "training/image_2/a_front_1.png",
}
LABEL = {"yolo": "labels/train/a_front_1.txt", "kitti": "training/label_2/a_front_1.txt"}
KITTI_BOX = "car -1 -1 -10 {} -1 -1 -1 -1000 -1000 -1000 -10\n"


@pytest.fixture(params=FORMATS)
def good(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Format, Path]:
    """A good set in each format."""
    write_set(tmp_path / "set", request.param, few_images())
    return request.param, tmp_path / "set"


def rules(folder: Path) -> set[str]:
    """The rules broken there; the report can be printed."""
    report = check_dataset(folder)
    text = report.as_text()
    assert text.isprintable() or all(line.isprintable() for line in text.splitlines())
    assert all(f"{rule}: " in text for rule in report.counts)
    assert report.ok == (not report.findings)
    return set(report.counts)


def test_a_good_set_breaks_no_rule(good: tuple[Format, Path]) -> None:
    format_name, folder = good
    before = sorted(folder.rglob("*"))
    report = check_dataset(folder)
    assert report.ok, report.as_text()
    assert (report.formats, report.images, report.boxes) == ((format_name,), 5, 5)
    assert "all rules hold" in report.as_text()
    assert sorted(folder.rglob("*")) == before


def test_without_the_table_a_good_set_is_good(good: tuple[Format, Path]) -> None:
    (good[1] / "images.parquet").unlink()
    assert rules(good[1]) == set()


def test_a_missing_image_and_missing_labels(good: tuple[Format, Path]) -> None:
    format_name, folder = good
    if format_name in LABEL:
        (folder / LABEL[format_name]).unlink()
        assert rules(folder) == {"pair-missing"}
    (folder / IMAGE[format_name]).unlink()
    assert rules(folder) == {"pair-missing"}


def test_an_image_that_nothing_lists(good: tuple[Format, Path]) -> None:
    format_name, folder = good
    write_picture(folder / Path(IMAGE[format_name]).with_name("stray.png"), 64, 48, 99)
    assert rules(folder) == {"pair-missing"}


def test_other_bytes_and_another_size(good: tuple[Format, Path]) -> None:
    format_name, folder = good
    write_picture(folder / IMAGE[format_name], 64, 48, 99)
    assert rules(folder) == {"hash-differs"}
    write_picture(folder / IMAGE[format_name], 80, 60, 99)
    assert rules(folder) == {"hash-differs", "size-differs"}
    write_picture(folder / IMAGE[format_name], 50, 48, 99)
    outside = (
        {"box-outside"} if format_name != "coco" else set()
    )  # COCO's boxes are inside of COCO's own size
    if format_name == "yolo":
        outside = set()  # they are fractions of the size
    assert rules(folder) == {"hash-differs", "size-differs"} | outside


def test_the_same_image_in_two_splits(good: tuple[Format, Path]) -> None:
    format_name, folder = good
    (folder / "images.parquet").unlink()
    other = {"yolo": "images/val/b_front_1.png", "coco": "images/val/b_front_1.png"}
    target = folder / other.get(format_name, "training/image_2/b_front_1.png")
    shutil.copyfile(folder / IMAGE[format_name], target)
    assert rules(folder) == {"split-overlap"}


def test_a_group_in_two_splits(tmp_path: Path) -> None:
    from dataclasses import replace

    images = [replace(image, group="one drive") for image in few_images()]
    for format_name in FORMATS:
        write_set(tmp_path / format_name, format_name, images)
        report = check_dataset(tmp_path / format_name)
        assert set(report.counts) == {"split-overlap"}
        assert "group one drive" in report.as_text()


def test_a_name_in_two_lists_of_kitti(tmp_path: Path) -> None:
    write_set(tmp_path, "kitti", few_images())
    with (tmp_path / "ImageSets" / "val.txt").open("a") as file:
        file.write("a_front_1\nno_such_image\n")
    assert rules(tmp_path) == {"split-overlap", "pair-missing"}


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ("1 0.5 0.5 0.2 0.2 0.9", "file-broken"),
        ("car 0.5 0.5 0.2 0.2", "file-broken"),
        ("1.5 0.5 0.5 0.2 0.2", "file-broken"),
        ("nan 0.5 0.5 0.2 0.2", "file-broken"),
        ("3 0.5 0.5 0.2 0.2", "class-unknown"),
        ("-1 0.5 0.5 0.2 0.2", "class-unknown"),
        ("1 0.5 0.5 0 0.2", "box-empty"),
        ("1 nan 0.5 0.1 0.2", "box-empty"),
        ("1 0.5 inf 0.1 0.2", "box-empty"),
        ("1 0.9 0.5 0.3 0.2", "box-outside"),
        ("1 32 24 10 10", "box-outside"),
        ("1 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.2 0.2", "box-duplicate"),
    ],
)
def test_rows_of_yolo(row: str, rule: str, tmp_path: Path) -> None:
    write_set(tmp_path, "yolo", few_images())
    (tmp_path / LABEL["yolo"]).write_text(row + "\n")
    assert rules(tmp_path) == {rule}


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (KITTI_BOX.format("1 1 5"), "file-broken"),
        (KITTI_BOX.format("1 1 5 x"), "file-broken"),
        (KITTI_BOX.format("1 1 5 9").replace("car", "tank"), "class-unknown"),
        (KITTI_BOX.format("5 1 1 9"), "box-empty"),
        (KITTI_BOX.format("5 1 70 9"), "box-outside"),
        (KITTI_BOX.format("5 1 7 9") * 2, "box-duplicate"),
    ],
)
def test_rows_of_kitti(row: str, rule: str, tmp_path: Path) -> None:
    write_set(tmp_path, "kitti", few_images())
    (tmp_path / LABEL["kitti"]).write_text(row)
    assert rules(tmp_path) == {rule}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"bbox": [1, 2, 0, 5]}, "box-empty"),
        ({"bbox": [1, 2, 1e999, 5]}, "box-empty"),
        ({"bbox": [60, 2, 30, 5]}, "box-outside"),
        ({"bbox": [1, 2, 3]}, "file-broken"),
        ({"bbox": [1, 2, "3", 4]}, "file-broken"),
        ({"bbox": [1, 2, 10**400, 4]}, "file-broken"),
        ({"id": 2}, "file-broken"),
        ({"id": [1]}, "file-broken"),
        ({"iscrowd": []}, None),
        ({"category_id": 9}, "class-unknown"),
        ({"category_id": {}}, "class-unknown"),
        ({"image_id": 99}, "pair-missing"),
    ],
)
def test_records_of_coco(change: dict[str, object], rule: str | None, tmp_path: Path) -> None:
    write_set(tmp_path, "coco", few_images())
    path = tmp_path / "annotations" / "instances_train.json"
    data = json.loads(path.read_text())
    data["annotations"][0].update(change)
    path.write_text(json.dumps(data))
    assert rules(tmp_path) == ({rule} if rule else set())


def test_coco_in_another_order_and_a_box_twice(tmp_path: Path) -> None:
    write_set(tmp_path, "coco", few_images())
    path = tmp_path / "annotations" / "instances_train.json"
    data = json.loads(path.read_text())
    path.write_text(
        json.dumps({key: data[key] for key in ("annotations", "images", "info", "categories")}, indent=2)
    )
    assert rules(tmp_path) == set()
    data["annotations"].append(data["annotations"][0] | {"id": 77})
    path.write_text(json.dumps(data))
    assert rules(tmp_path) == {"box-duplicate"}


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a\0b", "", 5, None, ["x"], "x" * 5000])
def test_coco_names_that_lead_out(name: object, tmp_path: Path) -> None:
    write_set(tmp_path, "coco", few_images(), table=False)
    path = tmp_path / "annotations" / "instances_val.json"
    data = json.loads(path.read_text())
    data["images"][0]["file_name"] = name
    path.write_text(json.dumps(data))
    assert {"file-broken"} <= rules(tmp_path) <= {"file-broken", "pair-missing"}


@pytest.mark.parametrize(
    "text",
    [
        "names: [",
        "- a",
        "",
        "train: images/train\nval: images/val\nnames: 5",
        "train: /etc\nval: ../..\nnames: [a, b, c]",
        "path: /\ntrain: etc\nval: etc\nnames: [a, b, c]",
        "train: {}\nval: 5\nnames: {x: a}",
        "[" * 3000,
        "a: &a [*a]\nnames: *a\ntrain: *a\nval: *a",
        "names: !!python/object/apply:os.system [ls]",
        "names: " + "1" * 5000,
    ],
)
def test_hostile_data_yaml(text: str, tmp_path: Path) -> None:
    write_set(tmp_path, "yolo", few_images(), table=False)
    (tmp_path / "data.yaml").write_text(text)
    assert "file-broken" in rules(tmp_path)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _binary(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 40)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


@pytest.mark.parametrize("damage", [_cut, _binary, _folder, _pipe, _huge, _loop])
def test_any_file_may_be_anything(good: tuple[Format, Path], damage: Callable[[Path], None]) -> None:
    folder = good[1]
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.name in {"ignored.json", "classes.txt"} or path.stat().st_size == 0:
            continue
        if damage is _cut and path.suffix == ".txt":
            continue  # half a list is a list
        kept = path.with_name("kept")
        shutil.copyfile(path, kept)
        damage(path)
        found = rules(folder)
        assert found, path
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
        kept.rename(path)
    assert rules(folder) == set()


def test_a_jpeg_without_its_end_mark(tmp_path: Path) -> None:
    write_set(tmp_path, "yolo", few_images(), table=False)
    path = tmp_path / "images" / "train" / "a_front_3.jpg"
    path.write_bytes(path.read_bytes() + b"\0\0")
    assert rules(tmp_path) == {"image-broken"}


def test_splits_without_images(tmp_path: Path) -> None:
    write_set(tmp_path / "yolo", "yolo", [i for i in few_images() if i.split == "train"])
    assert rules(tmp_path / "yolo") == set()
    data = tmp_path / "yolo" / "data.yaml"
    assert "train stands in for it" in data.read_text()
    data.write_text(data.read_text().replace("val: images/train", "val: images/val"))
    assert rules(tmp_path / "yolo") == {"split-empty"}
    write_set(tmp_path / "coco", "coco", [i for i in few_images() if i.split == "train"])
    assert rules(tmp_path / "coco") == set()


def test_a_table_of_something_else(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_set(tmp_path, "coco", few_images())
    pq.write_table(pa.table({"name": ["a"]}), tmp_path / "images.parquet")
    assert rules(tmp_path) == {"file-broken"}
    row = {
        "name": 1,
        "split": None,
        "group": [1],
        "file": 5,
        "sha256": {"a": 1},
        "width": "x",
        "height": None,
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "images.parquet")
    assert rules(tmp_path) == {"pair-missing"}
    row["file"] = "images/train/a_front_1.png"
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "images.parquet")
    assert rules(tmp_path) == {"pair-missing", "split-overlap", "hash-differs", "size-differs"}


def test_no_set_and_no_folder(tmp_path: Path) -> None:
    assert rules(tmp_path) == {"format-unknown"}
    with pytest.raises(ConfigError, match="no folder"):
        check_dataset(tmp_path / "none")


def test_many_findings_cost_a_hundred() -> None:
    found = FindingList()
    for i in range(5000):
        found.add("box-empty", f"line {i}\x1b[2J", "x" * 10_000)
    report = found.report(Path("x"), ("yolo",), 1, 1)
    assert report.counts == {"box-empty": 5000}
    assert len(report.findings) == 100
    assert "and 4990 more" in report.as_text()
    assert "\x1b" not in report.as_text()
    assert len(report.as_text()) < 10_000
    with pytest.raises(KeyError):
        found.add("no-such-rule", "", "")
    assert all(RULES.values())


def test_boxes_at_the_border_are_inside(tmp_path: Path) -> None:
    for format_name in FORMATS:
        boxes = [label_box((0, 0, 1919.0, 1207.0)), label_box((0.123456, 7.654321, 1919.0, 600.777777))]
        images = [
            label_image("a", boxes, size=(1919, 1207)),
            label_image("b", boxes, "val", size=(1919, 1207)),
        ]
        write_set(tmp_path / format_name, format_name, images)
        assert rules(tmp_path / format_name) == set()


@pytest.mark.parametrize("size", [0, 1, 7, 65_530, 65_536, 200_000])
def test_records_are_read_whatever_the_pieces(size: int, tmp_path: Path) -> None:
    data = {"a": [], "pad": "é" * size, "n": [1234567, {"x": [1, {"y": "]"}]}, "b"], "o": {"k": [1]}, "t": 12}
    for indent in (None, 3):
        path = tmp_path / "x.json"
        path.write_text(json.dumps(data, indent=indent, ensure_ascii=False), encoding="utf-8")
        records = list(top_level_records(path))
        assert records == [("pad", data["pad"]), *(("n", v) for v in data["n"]), ("o", data["o"]), ("t", 12)]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"a"',
        '{"a":',
        '{"a": [',
        '{"a": [1',
        '{"a": [1 2]}',
        "{1: 2}",
        '{"a": ' + "[" * 100_000,
    ],
)
def test_what_is_no_json_object_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(BrokenJson):
        list(top_level_records(path))


def test_a_record_without_end_is_an_error_within_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": ["' + "x" * 20_000_000)
    with pytest.raises(BrokenJson, match="no end of a record"):
        list(top_level_records(path))
