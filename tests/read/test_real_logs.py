"""Real recordings: every one gives images or one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from perception_batch.errors import LogError
from perception_batch.read import open_log
from perception_batch.read.rigs.rig_file import read_rig_file
from perception_batch.types import EgoPose, EncodedFrame

pytestmark = pytest.mark.real

GOOD = {
    "ddad_surround": (6, 18, 6, (1936, 1216)),
    "nuscenes_sample.bag": (6, 6, 6, (1600, 900)),
    "nuscenes_n008": (6, 24, 0, (1600, 900)),
    "kitti_0926": (1, 28, 1, (1242, 375)),
    "odd/t265_stereo_fisheye.bag": (2, 6, 0, (848, 800)),
    "odd/soccer_goal_split": (1, 2, 0, (640, 480)),
    "odd/ros2_one_of_each.mcap": (2, 2, 0, (640, 480)),
    "dashcam_lanes.mp4": (1, 221, 0, (960, 540)),
    "dashcam_h264.mcap": (1, 38, 0, (1280, 720)),
    "odd/foxglove_json_cameras.mcap": (1, 10, 0, (520, 360)),
    "odd/all_types_damaged_images/test_bag_mcap": (2, 4, 0, None),
    "odd/all_types_damaged_images/test_bag_sqlite3": (2, 4, 0, None),
}
BAD = {
    "README.md": "not a log",
    "fisheye_rig": "images without stamps",
    "odd": None,
    "odd/all_types_damaged_images": "holds no log",
    "odd/empty-file.bag": "the file is empty",
    "odd/no-messages.bag": "holds no messages",
    "odd/truncated.bag": "no camera topic.*/rosout_agg",
    "odd/example-bz2.bag": "no camera topic.*/turtle1/pose",
    "odd/example-lz4.bag": "no camera topic.*/turtle1/pose",
    "odd/mixed_json_protobuf.mcap": "no camera topic.*foxglove.PoseInFrame",
}


def test_every_odd_file_is_named_here(recordings: Path) -> None:
    here = {name for name in [*GOOD, *BAD] if name.startswith("odd/")}
    for path in (recordings / "odd").iterdir():
        assert f"odd/{path.name}" in here


@pytest.mark.parametrize("name", GOOD)
def test_images(recordings: Path, name: str) -> None:
    cameras, count, calibrated, size = GOOD[name]
    with open_log([recordings / name]) as log:
        selected = log.select(None)
        assert len(selected) == cameras
        rig = log.rig(selected)
        assert len(rig.cameras) == calibrated
        assert len(rig.cameras) + len(rig.uncalibrated) == cameras
        out = list(log.stream(selected))
    frames = [x for x in out if isinstance(x, EncodedFrame)]
    assert len(frames) == count
    assert all(f.stamp_ok for f in frames)
    if size is not None:
        assert {(f.width_px, f.height_px) for f in frames} == {size}
    if name == "ddad_surround":
        assert rig.base_frame == "base_link"
        assert {p.source for p in out if isinstance(p, EgoPose)} == {"tf"}
    if name == "odd/t265_stereo_fisheye.bag":
        left, right = ([f.stamp_ns for f in frames if f.camera == c] for c in selected)
        assert left == right, "both fisheyes expose together, whatever the log times"
        assert sum(isinstance(x, EgoPose) for x in out) == 19
    if name == "odd/soccer_goal_split":
        assert [(loss.topic, loss.count) for loss in log.losses] == [("/camera/image_raw", 249)]


@pytest.mark.parametrize("name", BAD)
def test_one_clear_line(recordings: Path, name: str) -> None:
    if BAD[name] is None:
        # a folder of several logs opens as one drive: what cannot be read is a loss
        with open_log([recordings / name]) as log:
            assert "*" in {loss.topic for loss in log.losses}
        return
    with pytest.raises(LogError, match=BAD[name]) as caught:
        open_log([recordings / name])
    assert "\n" not in str(caught.value)


def test_real_opencv_fisheye_files(recordings: Path) -> None:
    for path in sorted((recordings / "fisheye_rig" / "yaml").glob("*.yaml")):
        lens = read_rig_file(path).intrinsics[path.stem]
        assert (lens.model, lens.width_px, lens.height_px) == ("equidistant", 960, 640)
        assert 250 < lens.fx_px < 350
