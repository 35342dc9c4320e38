from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perception_batch.errors import LogError
from perception_batch.read import open_log
from perception_batch.read.containers.image_folder import ImageFolder, is_image_folder
from perception_batch.read.containers.logfile import Message, open_log_file
from perception_batch.types import EncodedFrame

LIMIT = 1 << 20
START = 1_531_883_530_000_000_000


def jpeg(shade: int = 100) -> bytes:
    import cv2

    done, data = cv2.imencode(".jpg", np.full((24, 32, 3), shade, np.uint8))
    assert done
    return bytes(data)


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def opened(path: Path) -> ImageFolder:
    file = open_log_file(path, LIMIT)
    assert isinstance(file, ImageFolder)
    return file


def read(path: Path) -> list[Message]:
    file = opened(path)
    return list(file.messages(file.channels))


def stamps(path: Path) -> dict[str, list[int]]:
    out: dict[str, list[int]] = {}
    for message in read(path):
        assert message.log_ns == message.publish_ns
        out.setdefault(message.channel.topic, []).append(message.publish_ns)
    return out


def kitti(top: Path, cameras: int = 2, count: int = 4, missing: tuple[int, ...] = ()) -> None:
    for camera in range(cameras):
        folder = top / f"image_{camera:02d}"
        for number in set(range(count)) - set(missing):
            put(folder / "data" / f"{number:010d}.png", jpeg(camera * 50 + number))
        lines = [f"2011-09-26 13:02:{25 + n}.96438944{camera}" for n in range(count)]
        (folder / "timestamps.txt").write_text("\n".join(lines) + "\n")
    put(top / "velodyne_points/data/0000000000.bin", b"points")


KITTI_NS = 1_317_042_145_964_389_440


def test_kitti_raw(tmp_path: Path) -> None:
    kitti(tmp_path)
    file = opened(tmp_path)
    assert [(c.topic, c.msgtype, c.encoding) for c in file.channels] == [
        ("/image_00", "image file", "file"),
        ("/image_01", "image file", "file"),
    ]
    messages = list(file.messages(file.channels))
    assert [(m.publish_ns, m.channel.topic) for m in messages] == [
        (KITTI_NS + n * 10**9 + camera, f"/image_0{camera}") for n in range(4) for camera in range(2)
    ]
    assert [m.data for m in messages[:3]] == [jpeg(0), jpeg(50), jpeg(1)]
    assert (file.start_ns, file.stop_ns) == (messages[0].log_ns, messages[-1].log_ns + 1)
    assert file.message_count == 8
    assert file.counts() == {0: 4, 1: 4}
    assert file.losses == ()


def test_one_kitti_camera_named_by_itself(tmp_path: Path) -> None:
    kitti(tmp_path, 1)
    assert list(stamps(tmp_path / "image_00")) == ["/image_00"]
    assert list(stamps(tmp_path / "image_00" / "data")) == ["/image_00"]


def test_missing_kitti_images_keep_the_stamps_of_the_others(tmp_path: Path) -> None:
    kitti(tmp_path, 1, missing=(1, 2))
    file = opened(tmp_path)
    assert [m.publish_ns for m in file.messages(file.channels)] == [KITTI_NS, KITTI_NS + 3 * 10**9]
    assert [(x.topic, x.count, x.start_ns, x.stop_ns) for x in file.losses] == [
        ("/image_00", 2, KITTI_NS + 10**9, KITTI_NS + 2 * 10**9 + 1)
    ]


def test_nuscenes(tmp_path: Path) -> None:
    for number, folder in enumerate(["samples/CAM_FRONT", "samples/CAM_BACK", "sweeps/CAM_FRONT"]):
        for step in range(2):
            us = 1531883530412470 + 100_000 * step + 10_000 * number
            put(tmp_path / folder / f"n008-2018-07-18-03-12-10+0800__X__{us}.jpg", jpeg(number))
    put(tmp_path / "samples/LIDAR_TOP/n008__LIDAR_TOP__1531883530412470.pcd.bin", b"points")
    first = 1531883530412470000
    assert stamps(tmp_path) == {
        "/CAM_FRONT": [first, first + 20_000_000, first + 100_000_000, first + 120_000_000],
        "/CAM_BACK": [first + 10_000_000, first + 110_000_000],
    }


@pytest.mark.parametrize("where", ["stamps.csv", "timestamps.txt", "times.txt"])
def test_names_and_stamps_in_any_order(tmp_path: Path, where: str) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        put(tmp_path / "front" / name, jpeg())
    lines = ["file,stamp", f"./x/c.jpg,{START}", f"a.jpg,{START + 5}", f"b,{START + 3}"]
    (tmp_path / "front" / where).write_text("\n".join(lines))
    assert stamps(tmp_path) == {"/front": [START, START + 3, START + 5]}


def test_stamps_in_the_order_of_the_files(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        put(tmp_path / name, jpeg())
    (tmp_path / "stamps.txt").write_text(f"# first to last\n\n{START / 1e9:.1f}\n{START // 10**9}.25\n")
    assert stamps(tmp_path) == {f"/{tmp_path.name}": [START, START + 250_000_000]}


@pytest.mark.parametrize(
    "name", ["1531883530000000000", "1531883530000000", "front_1531883530000", "1531883530.0", "x-1531883530"]
)
def test_names_that_are_stamps(tmp_path: Path, name: str) -> None:
    put(tmp_path / "left" / f"{name}.png", jpeg())
    assert stamps(tmp_path) == {"/left": [START]}


def test_images_without_stamps_are_refused_in_one_line(tmp_path: Path) -> None:
    put(tmp_path / "left" / "one.jpg", jpeg())
    with pytest.raises(LogError, match=r"1 images without stamps: wanted is stamps\.csv"):
        opened(tmp_path)
    (tmp_path / "left" / "stamps.txt").write_text("1.5\n2.5\n")
    with pytest.raises(LogError, match="2 stamps for 1 images"):
        opened(tmp_path)
    (tmp_path / "left" / "stamps.txt").write_text("1.5\nnever\n")
    with pytest.raises(LogError, match="line 2 has no stamp"):
        opened(tmp_path)


def test_some_images_without_a_stamp_are_a_loss(tmp_path: Path) -> None:
    put(tmp_path / "left" / "1531883530000.jpg", jpeg())
    put(tmp_path / "left" / "cover.jpg", jpeg())
    file = opened(tmp_path)
    assert len(list(file.messages(file.channels))) == 1
    assert [(x.topic, x.count) for x in file.losses] == [("/left", 1)]


def test_what_cannot_be_read_is_a_loss(tmp_path: Path) -> None:
    for n in range(4):
        put(tmp_path / "left" / f"153188353000{n}.jpg", jpeg())
    (tmp_path / "left" / "1531883530004.jpg").mkdir()
    put(tmp_path / "left" / "1531883530001.jpg", bytes(LIMIT + 1))
    file = opened(tmp_path)
    (tmp_path / "left" / "1531883530002.jpg").unlink()
    assert [m.log_ns - START for m in file.messages(file.channels)] == [0, 3_000_000]
    assert sum(x.count for x in file.losses) == 3
    assert all(x.topic == "/left" for x in file.losses)


def test_a_range(tmp_path: Path) -> None:
    for n in range(5):
        put(tmp_path / "left" / f"153188353000{n}.jpg", jpeg())
    file = opened(tmp_path)
    part = file.messages(file.channels, START + 1_000_000, START + 3_000_000)
    assert [m.log_ns - START for m in part] == [1_000_000, 2_000_000]
    assert list(file.messages([])) == []


def test_folders_that_are_no_image_folders(tmp_path: Path) -> None:
    assert not is_image_folder(tmp_path)
    put(tmp_path / "a/b/c/d/1531883530000.jpg", jpeg())
    assert not is_image_folder(tmp_path)
    assert is_image_folder(tmp_path / "a")
    put(tmp_path / "x/.1531883530000.jpg", jpeg())
    assert not is_image_folder(tmp_path / "x")
    with pytest.raises(LogError, match="no images"):
        opened(tmp_path / "x")


def test_as_a_log(tmp_path: Path) -> None:
    kitti(tmp_path)
    with open_log([tmp_path]) as log:
        assert sorted(log.cameras) == ["image_00", "image_01"]
        frames = [f for f in log.stream(["image_00", "image_01"]) if isinstance(f, EncodedFrame)]
        first = log.fingerprint()
    assert [f.stamp_ns for f in frames[:2]] == [KITTI_NS, KITTI_NS + 1]
    assert {(f.encoding, f.width_px, f.height_px, f.unused) for f in frames} == {("jpeg", 32, 24, "")}
    put(tmp_path / "image_00/data/0000000002.png", jpeg() + b"x")
    with open_log([tmp_path]) as log:
        assert log.fingerprint() != first


@pytest.mark.real
def test_real_kitti_images_unpacked(recordings: Path, tmp_path: Path) -> None:
    with open_log([recordings / "kitti_0926"]) as log:
        name = next(iter(log.cameras))
        frames = [f for f in log.stream([name]) if isinstance(f, EncodedFrame)]
    lines = []
    for number, frame in enumerate(frames):
        put(tmp_path / f"image_02/data/{number:010d}.png", bytes(frame.payload.data))  # type: ignore[union-attr]
        lines.append(f"{frame.stamp_ns // 10**9}.{frame.stamp_ns % 10**9:09d}")
    (tmp_path / "image_02/timestamps.txt").write_text("\n".join(lines))
    with open_log([tmp_path]) as log:
        again = [f for f in log.stream(["image_02"]) if isinstance(f, EncodedFrame)]
    assert [f.stamp_ns for f in again] == [f.stamp_ns for f in frames]
    assert [(f.width_px, f.height_px) for f in again] == [(f.width_px, f.height_px) for f in frames]
