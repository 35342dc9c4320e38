"""Names and choice of camera topics."""

from __future__ import annotations

from pathlib import Path

import pytest

from perception_batch.config import CameraConfig
from perception_batch.errors import ConfigError, LogError
from perception_batch.read.images.topics import TopicInfo, file_safe, find_cameras, is_picture
from perception_batch.read.rigs.camera_info import info_topics_beside

COMPRESSED, RAW = "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image"


def find(
    topics: dict[str, int] | list[str], settings: dict[str, CameraConfig] | None = None, frame: str = ""
):
    counts = topics if isinstance(topics, dict) else dict.fromkeys(topics, 5)
    infos = [
        TopicInfo(t, COMPRESSED if t.endswith(("compressed", "compressedDepth")) else RAW, n)
        for t, n in counts.items()
    ]
    return find_cameras(infos, settings or {}, Path("x.mcap"), lambda topic: frame)


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("/cam_front/image_rect_color/compressed", "cam_front"),
        ("/kitti/image_02/compressed", "kitti_image_02"),
        ("/camera/color/image_raw", "camera_color"),
        ("/a/b/image", "a_b"),
        ("/left/image_mono", "left"),
        ("/compressed_image", "compressed_image"),
        ("/CAM_FRONT/image_rect_compressed", "CAM_FRONT"),
        ("/cam/image_raw/ffmpeg", "cam"),
        ("/cam/image_raw/foxglove", "cam"),
        ("/../../etc/image_raw", "etc"),
        ("/a\n\x1b[31m/image_raw", "a___31m"),
    ],
)
def test_names(topic: str, name: str) -> None:
    assert list(find([topic])) == [name]


def test_nothing_left_takes_the_frame_then_camera() -> None:
    assert list(find(["/image_raw/compressed"], frame="/front_optical")) == ["front_optical"]
    assert list(find(["/image_raw/compressed"], frame="")) == ["camera"]


def test_one_topic_a_camera_compressed_first() -> None:
    cameras = find(["/cam/image_raw", "/cam/image_raw/compressed", "/cam/image_rect_color/compressed"])
    assert list(cameras) == ["cam"]
    assert cameras["cam"].topic == "/cam/image_raw/compressed"
    assert set(cameras["cam"].alternates) == {"/cam/image_raw", "/cam/image_rect_color/compressed"}
    empty = find({"/cam/image_raw": 9, "/cam/image_raw/compressed": 0})
    assert empty["cam"].topic == "/cam/image_raw", "a topic without messages is no choice"


def test_stills_before_video_before_raw() -> None:
    kinds = {
        "/cam/image_raw": "foxglove.RawImage",
        "/cam/video": "foxglove.CompressedVideo",
        "/cam/image_raw/ffmpeg": "ffmpeg_image_transport_msgs/msg/FFMPEGPacket",
        "/cam/image_rect_compressed": "foxglove_msgs/msg/CompressedImage",
    }
    order = ["/cam/image_rect_compressed", "/cam/video", "/cam/image_raw/ffmpeg", "/cam/image_raw"]
    for i in range(len(order)):
        infos = [TopicInfo(topic, kinds[topic], 5 if topic in order[i:] else 0) for topic in sorted(kinds)]
        camera = find_cameras(infos, {}, Path("x.mcap"), lambda topic: "")["cam"]
        assert (camera.topic, camera.msgtype) == (order[i], kinds[order[i]])
        assert set(camera.alternates) == set(order) - {order[i]}


def test_a_video_file_is_called_by_its_stem() -> None:
    names = ["video", "front/image_raw", "front", "image"]
    infos = [TopicInfo(name, "video packet h264", 5) for name in names]
    infos.append(TopicInfo("/front/image_raw", RAW, 5))
    cameras = find_cameras(infos, {}, Path("x"), lambda topic: "frame")
    assert {c.topic: n for n, c in cameras.items()} == {
        "video": "video",
        "image": "image",
        "front/image_raw": "front_image_raw",
        "front": "front",
        "/front/image_raw": "front_image_raw_2",
    }
    assert not any(camera.alternates for camera in cameras.values())


def test_collisions_keep_more_of_the_topic() -> None:
    cameras = find(["/a_b/image", "/a/b/image", "/a/b_image_raw", "/image_raw"], frame="a_b")
    assert len(cameras) == 4
    assert {c.topic for c in cameras.values()} == {"/a_b/image", "/a/b/image", "/a/b_image_raw", "/image_raw"}
    again = find(["/image_raw", "/a/b_image_raw", "/a/b/image", "/a_b/image"], frame="a_b")
    assert again == cameras, "names do not depend on the order of topics"


@pytest.mark.parametrize(
    "topic",
    ["/camera/depth/image_raw", "/cam/aligned_depth_to_color/image_raw", "/cam/disparity", "/seg/image",
     "/cam/image_raw/compressedDepth", "/debug/image_raw", "/cam/label"],
)  # fmt: skip
def test_depth_and_debug_only_when_named(topic: str) -> None:
    assert not is_picture(topic)
    cameras = find([topic, "/cam/image_raw/compressed"])
    assert [n for n, c in cameras.items() if c.enabled] == ["cam"]
    assert "when named" in next(c.why_not for c in cameras.values() if c.topic == topic)
    named = find([topic, "/cam/image_raw/compressed"], {"mine": CameraConfig(topic=topic)})
    assert named["mine"].enabled
    assert named["mine"].topic == topic


def test_config_renames_disables_and_defines() -> None:
    topics = ["/a/image_raw", "/a/image_raw/compressed", "/b/image_raw", "/c/image_raw"]
    settings = {
        "front": CameraConfig(topic="/a/image_raw", rename="f"),
        "b": CameraConfig(enabled=False),
        "c": CameraConfig(rename="rear"),
    }
    cameras = find(topics, settings)
    assert {n: c.enabled for n, c in cameras.items()} == {"b": False, "f": True, "rear": True}
    assert cameras["f"].config_name == "front"
    assert cameras["f"].topic == "/a/image_raw"
    assert cameras["f"].alternates == ("/a/image_raw/compressed",)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"bb": CameraConfig()}, "did you mean 'b'"),
        ({"zzz": CameraConfig()}, "it has a, b"),
        ({"x": CameraConfig(topic="/nope")}, "no image topic.*/a/image_raw, /b/image_raw"),
        ({"a": CameraConfig(rename="b")}, "two cameras"),
        ({"a": CameraConfig(rename="../x")}, "no usable name"),
    ],
)
def test_config_errors_say_what_there_is(settings: dict[str, CameraConfig], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        find(["/a/image_raw", "/b/image_raw"], settings)


def test_no_camera_lists_the_topics() -> None:
    with pytest.raises(LogError, match=r"no camera topic.*/imu \(sensor_msgs/msg/Imu\)"):
        find_cameras([TopicInfo("/imu", "sensor_msgs/msg/Imu", 3)], {}, Path("x"), lambda t: "")


@pytest.mark.parametrize(
    ("image", "info"),
    [
        ("/cam/image_raw/compressed", "/cam/camera_info"),
        ("/cam/image_rect_color/compressed", "/cam/camera_info"),
        ("/cam/image_raw", "/cam/image_raw/camera_info"),
        ("/kitti/image_02/compressed", "/kitti/image_02/camera_info"),
        ("/image_raw", "/camera_info"),
    ],
)
def test_info_topic_is_a_sibling(image: str, info: str) -> None:
    assert info_topics_beside(image, [info, "/other/camera_info"]) == (info,)


def test_info_of_a_neighbour_is_not_taken() -> None:
    assert info_topics_beside("/rig/front/image_raw", ["/rig/camera_info", "/rig/back/camera_info"]) == ()


def test_file_safe() -> None:
    assert file_safe("a/b c") == "a_b_c"
    assert file_safe("..") == ""
    assert len(file_safe("x" * 500)) == 100
