"""Calibration files: every form, folders of them, chains of cameras, the round trip, and what strangers write."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from log_writer import CameraSpec, optical_quaternion, ring, write_log

from perception_batch.calibration import Camera, Intrinsics, Rig
from perception_batch.config import CameraConfig, PoseConfig, ReadConfig
from perception_batch.errors import CalibrationError
from perception_batch.geometry import SE3
from perception_batch.read import open_log, write_rig
from perception_batch.read.rigs.camchain import transform_of
from perception_batch.read.rigs.rig_file import read_rig_file, rig_file_sha256

Array = npt.NDArray[np.float64]
K = np.array([[50.0, 0, 31.0], [0, 51.0, 23.0], [0, 0, 1]])
FISHEYE = [0.05, -0.02, 0.003, -0.0004]


def rig_of(path: Path, cameras: dict[str, CameraConfig] | None = None, **kwargs: Any) -> Rig:
    with open_log([path], ReadConfig(), cameras) as log:
        return log.rig(log.select(None), **kwargs)


# ---------------------------------------------------------------------- OpenCV


def opencv_file(path: Path, d: list[float], **more: Any) -> Path:
    """As OpenCV itself writes it."""
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    storage.write("image_width", 64)
    storage.write("image_height", 48)
    storage.write("camera_matrix", K)
    storage.write("distortion_coefficients", np.array(d))
    for key, value in more.items():
        storage.write(key, value)
    storage.release()
    return path


@pytest.mark.parametrize("suffix", ["yaml", "yml", "xml", "json"])
@pytest.mark.parametrize(
    ("d", "more", "model"),
    [
        (FISHEYE, {}, "equidistant"),
        ([0.1, 0.02, 0.001, 0.002, 0.01], {}, "plumb_bob"),
        ([0.1] * 8, {}, "rational_polynomial"),
        ([0.1, 0.02, 0.001, 0.002], {"fisheye_model": 0}, "plumb_bob"),
        (FISHEYE, {"fisheye_model": 1}, "equidistant"),
        (FISHEYE, {"distortion_model": "plumb_bob"}, "plumb_bob"),
    ],
)
def test_what_opencv_writes(
    tmp_path: Path, suffix: str, d: list[float], more: dict[str, Any], model: str
) -> None:
    file = read_rig_file(opencv_file(tmp_path / f"left.{suffix}", d, **more))
    lens = file.intrinsics["left"]
    assert (lens.model, lens.width_px, lens.height_px) == (model, 64, 48)
    assert (lens.fx_px, lens.fy_px, lens.cx_px, lens.cy_px) == (50, 51, 31, 23)
    assert lens.distortion[: len(d)] == pytest.approx(d)
    guessed = model == "equidistant" and not more
    assert [("cv2.fisheye" in note) for note in file.notes] == [True] * guessed


def test_a_fisheye_file_is_the_lens_of_cv2(tmp_path: Path) -> None:
    lens = read_rig_file(opencv_file(tmp_path / "a.yaml", FISHEYE)).intrinsics["a"]
    points = np.random.default_rng(0).uniform([-3, -3, 0.5], [3, 3, 5], (50, 3))
    theirs, _ = cv2.fisheye.projectPoints(points[:, None], np.zeros(3), np.zeros(3), K, np.array(FISHEYE))
    assert lens.project(points) == pytest.approx(theirs[:, 0], abs=1e-9)


# ---------------------------------------------------------------------- Kalibr

NAMES = ["cam_0", "cam_1", "cam_2"]


def mount(i: int) -> SE3:
    """``base_SE3_camera`` of camera `i` of a made rig."""
    return SE3.from_quaternion(optical_quaternion(40.0 * i), (1.0 + 0.3 * i, -0.2 * i, 1.5))


def matrix(pose: SE3) -> Any:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = pose.rotation, pose.translation_m
    return out.tolist()


def camchain(base_SE3_imu: SE3 | None = None, *, chain: bool = True, shift_m: float = 0.0) -> dict[str, Any]:
    """The three cameras as Kalibr writes them: ``T_cn_cnm1`` from each to the next, ``T_cam_imu``."""
    out: dict[str, Any] = {}
    for i in range(3):
        entry: dict[str, Any] = {
            "camera_model": "pinhole",
            "distortion_model": "radtan",
            "distortion_coeffs": [0.01, 0.02, 0.001, 0.002],
            "intrinsics": [50.0, 51.0, 31.0, 23.0],
            "resolution": [64, 48],
            "rostopic": f"/cam_{i}/image_raw",
        }
        if i and chain:
            link = mount(i).inverse() @ mount(i - 1)
            entry["T_cn_cnm1"] = matrix(SE3(link.rotation, link.translation_m + np.array([shift_m, 0, 0])))
        if base_SE3_imu is not None:
            entry["T_cam_imu"] = matrix(mount(i).inverse() @ base_SE3_imu)
        out[f"cam{i}"] = entry
    return out


IMU = SE3.from_quaternion((0.1, -0.2, 0.3, 0.9), (0.5, 0.1, 0.4))


def specs(with_tf: set[str]) -> list[CameraSpec]:
    out = []
    for i, name in enumerate(NAMES):
        x, y, z = (float(v) for v in mount(i).translation_m)
        out.append(CameraSpec(name, tf=name in with_tf, info=False, position_m=(x, y, z), yaw_deg=40.0 * i))
    return out


@pytest.mark.parametrize("anchor", NAMES)
@pytest.mark.parametrize("how", ["chain", "imu", "both"])
def test_a_camera_with_a_pose_places_the_others(tmp_path: Path, anchor: str, how: str) -> None:
    file = tmp_path / "camchain.yaml"
    data = camchain(None if how == "chain" else IMU, chain=how != "imu")
    file.write_text(yaml.safe_dump(data))
    rig = rig_of(write_log(tmp_path, "mcap", specs({anchor})), rig_file=file)
    assert (sorted(rig.cameras), rig.base_frame, rig.notes) == (NAMES, "base_link", ())
    for i, name in enumerate(NAMES):
        camera = rig.cameras[name]
        assert camera.base_SE3_camera.translation_m == pytest.approx(mount(i).translation_m, abs=1e-9)
        assert camera.base_SE3_camera.rotation == pytest.approx(mount(i).rotation, abs=1e-9)
        pose_source = "tf" if name == anchor else f"camchain.yaml+{anchor}"
        assert camera.source == f"camchain.yaml+{pose_source}"


def test_the_config_places_a_chain_too(tmp_path: Path) -> None:
    file = tmp_path / "camchain.yaml"
    file.write_text(yaml.safe_dump(camchain()))
    path = write_log(tmp_path, "mcap", specs(set()))
    bare = rig_of(path, rig_file=file)
    assert bare.cameras == {}
    assert "give one of them cameras.<name>.base_SE3_camera" in bare.uncalibrated["cam_1"]
    where = mount(1)
    x, y, z, w = (float(v) for v in where.quaternion_xyzw())
    px, py, pz = (float(v) for v in where.translation_m)
    config = {
        "cam_1": CameraConfig(
            base_SE3_camera=PoseConfig(position_m=(px, py, pz), quaternion_xyzw=(x, y, z, w))
        )
    }
    rig = rig_of(path, config, rig_file=file)
    for i, name in enumerate(NAMES):
        assert rig.cameras[name].base_SE3_camera.translation_m == pytest.approx(mount(i).translation_m)


def test_a_chain_that_does_not_fit_places_nothing(tmp_path: Path) -> None:
    file = tmp_path / "camchain.yaml"
    file.write_text(yaml.safe_dump(camchain(shift_m=0.2)))
    rig = rig_of(write_log(tmp_path, "mcap", specs({"cam_0", "cam_1"})), rig_file=file)
    assert sorted(rig.cameras) == ["cam_0", "cam_1"]
    assert rig.cameras["cam_1"].base_SE3_camera.translation_m == pytest.approx(mount(1).translation_m)
    assert "does not fit the poses of cam_0 and cam_1" in rig.notes[0]
    assert "does not fit" in rig.uncalibrated["cam_2"]


def test_a_chain_and_an_imu_that_disagree(tmp_path: Path) -> None:
    file = tmp_path / "camchain.yaml"
    file.write_text(yaml.safe_dump(camchain(IMU, shift_m=0.2)))
    notes = read_rig_file(file).notes
    assert len(notes) == 2
    assert "cam1: T_cam_imu and the chain of T_cn_cnm1 disagree" in notes[0]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([[1, 0], [0, 1]], "no 4x4 matrix"),
        ("x", "no matrix of numbers|no 4x4"),
        (np.diag([1.0, 1, -1, 1]).tolist(), "mirrors"),
        (np.diag([2.0, 1, 1, 1]).tolist(), "no rigid transform"),
        (np.diag([1.0, 1, 1, 2]).tolist(), "no rigid transform"),
        (np.diag([math.nan, 1, 1, 1]).tolist(), "finite"),
    ],
)
def test_bad_transforms(tmp_path: Path, value: Any, says: str) -> None:
    data = camchain()
    data["cam1"]["T_cn_cnm1"] = value
    file = tmp_path / "camchain.yaml"
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(CalibrationError, match=f"cam1.T_cn_cnm1.*({says})"):
        read_rig_file(file)
    data = camchain()
    data["cam0"]["T_cn_cnm1"] = np.eye(4).tolist()
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(CalibrationError, match="none before it"):
        read_rig_file(file)


def test_a_rounded_rotation_becomes_one_again() -> None:
    rough = np.eye(4)
    rough[:3, :3] = np.round(IMU.rotation, 3)
    pose = transform_of(rough.tolist(), "x")
    assert pose.rotation @ pose.rotation.T == pytest.approx(np.eye(3), abs=1e-12)
    assert pose.rotation == pytest.approx(IMU.rotation, abs=2e-3)


# ---------------------------------------------------------------------- folders


def test_a_folder_of_files_one_a_camera(tmp_path: Path) -> None:
    folder = tmp_path / "calibration"
    folder.mkdir()
    opencv_file(folder / "cam_0.yaml", FISHEYE)
    opencv_file(folder / "cam_1.xml", [0.1, 0.02, 0.001, 0.002, 0.01])
    ros = {"image_width": 64, "image_height": 48, "camera_name": "narrow_stereo", "distortion_model": "plumb_bob",
           "camera_matrix": {"data": K.ravel().tolist()}, "distortion_coefficients": {"data": [0.0] * 5}}  # fmt: skip
    (folder / "cam_2.yaml").write_text(yaml.safe_dump(ros))
    (folder / "other.yml").write_text(yaml.safe_dump({**ros, "camera_name": "cam_3"}))
    (folder / "settings.yaml").write_text("a: 1\n")
    (folder / "README.txt").write_text("hello")
    rig = rig_of(write_log(tmp_path, "mcap", ring(4, info=False)), rig_file=folder)
    assert {n: c.intrinsics.model for n, c in rig.cameras.items()} == {
        "cam_0": "equidistant", "cam_1": "plumb_bob", "cam_2": "pinhole", "cam_3": "pinhole",
    }  # fmt: skip
    assert rig.cameras["cam_0"].source == "calibration+tf"
    assert any("settings.yaml: no calibration of a known form" in note for note in rig.notes)
    before = rig_file_sha256(folder)
    (folder / "README.txt").write_text("changed")
    assert rig_file_sha256(folder) == before
    (folder / "cam_2.yaml").rename(folder / "cam_9.yaml")
    assert rig_file_sha256(folder) != before
    assert rig_file_sha256(folder / "cam_9.yaml") != before


def test_folders_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"without calibration files \(\.yaml, \.yml, \.json, \.xml\)"):
        read_rig_file(tmp_path)
    (tmp_path / "a.yaml").write_text("x: 1")
    with pytest.raises(CalibrationError, match="no calibration of a known form in it"):
        read_rig_file(tmp_path)
    opencv_file(tmp_path / "left.yaml", FISHEYE)
    opencv_file(tmp_path / "left.xml", FISHEYE)
    with pytest.raises(CalibrationError, match=r"left: .*stands in left\.xml and in left\.yaml"):
        read_rig_file(tmp_path)
    (tmp_path / "left.xml").unlink()
    (tmp_path / "right.yaml").write_text("camera_matrix: [1, 2\n")
    with pytest.raises(CalibrationError, match="right"):
        read_rig_file(tmp_path)
    with pytest.raises(CalibrationError, match="no such calibration file"):
        rig_file_sha256(tmp_path / "nope.yaml")


def test_two_rigs_of_two_frames_are_refused(tmp_path: Path) -> None:
    rig = rig_of(write_log(tmp_path / "log", "mcap", ring(2)))
    for i, base in enumerate(("base_link", "rear_axle")):
        data = rig.to_dict()
        data["base_frame"] = base
        data["cameras"] = {f"cam_{i}": data["cameras"][f"cam_{i}"]}
        (tmp_path / f"{i}.json").write_text(json.dumps(data))
    with pytest.raises(CalibrationError, match="different frames, base_link and rear_axle"):
        read_rig_file(tmp_path)


# ---------------------------------------------------------------------- ours, and back

finite = st.floats(-1e3, 1e3)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)


@st.composite
def cameras(draw: st.DrawFn, name: str) -> Camera:
    model = draw(st.sampled_from(["pinhole", "plumb_bob", "rational_polynomial", "equidistant"]))
    count = {"pinhole": 0, "plumb_bob": 5, "rational_polynomial": 8, "equidistant": 4}[model]
    d = tuple(draw(st.lists(st.floats(-1e-2, 1e-2), min_size=count, max_size=count)))
    focal = st.floats(1e-3, 1e5)
    lens = Intrinsics(model, 64, 48, draw(focal), draw(focal), draw(finite), draw(finite), d)  # type: ignore[arg-type]
    q = draw(st.tuples(finite, finite, finite, finite).filter(lambda v: math.hypot(*v) > 1e-3))
    return Camera(name, lens, SE3.from_quaternion(q, draw(st.tuples(finite, finite, finite))), "log")


@st.composite
def rigs(draw: st.DrawFn) -> Rig:
    made = {n: draw(cameras(n)) for n in draw(st.lists(names, min_size=1, max_size=4, unique=True))}
    ground = draw(st.one_of(st.just(math.nan), finite))
    return Rig(draw(names), made, {"other": "because"}, ground, ("a note",))


@given(rigs(), st.sampled_from(["rig.yaml", "rig.json"]))
@settings(max_examples=60, deadline=None)
def test_what_is_written_reads_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, rig: Rig, name: str
) -> None:
    path = tmp_path_factory.mktemp("rig") / name
    if name.endswith("json"):
        path.write_text(json.dumps(rig.to_dict()))
    else:
        write_rig(rig, path)
    file = read_rig_file(path)
    assert file.base_frame == rig.base_frame
    assert file.ground_z_m == rig.ground_z_m or math.isnan(rig.ground_z_m) == math.isnan(file.ground_z_m)
    assert file.intrinsics == {n: c.intrinsics for n, c in rig.cameras.items()}
    for camera_name, camera in rig.cameras.items():
        again = file.poses[camera_name]
        assert again.rotation.tobytes() == camera.base_SE3_camera.rotation.tobytes()
        assert again.translation_m.tolist() == camera.base_SE3_camera.translation_m.tolist()


# ---------------------------------------------------------------------- strangers

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.yaml", BOMB + "camera_matrix: *m\n", "alias"),
        ("a.yaml", "camera_matrix: " + "1:" * 50_000 + "1\n", "a value of|matrix"),
        ("a.yaml", "camera_matrix: " + "[" * 100_000, "a.yaml"),
        ("a.json", '{"K": ' + "[" * 100_000, "a.json"),
        ("a.json", '{"K": [1e999, 0, 0, 0, 1, 0, 0, 0, 1], "D": [], "size": [4, 4]}', "a.json"),
        ("a.yaml", "K: [1, 0, 0, 0, 1, 0, 0, 0, 1]\nD: []\nsize: [.inf, 4]\n", "a.yaml"),
        ("a.yaml", "K: [1, 0, 0, 0, 1, 0, 0, 0, 1]\nD: []\n", "image size is missing"),
        ("a.xml", "<opencv_storage><K/></opencv_storage>", "a.xml"),
        ("a.xml", "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]><opencv_storage/>", "document type"),
        ("a.xml", "<html/>", "not of <opencv_storage>"),
        ("a.xml", "<opencv_storage>", "not YAML, JSON or OpenCV XML"),
        ("a.yaml", "cameras: {a: 3}\n", "a"),
        ("a.yaml", "cam0: {intrinsics: [1, 2, 3]}\n", "a.yaml"),
        ("a.yaml", "cam0: {intrinsics: [1, 2, 3, 4], resolution: 5}\n", "a.yaml"),
        ("a.yaml", "\x00\x01", "a.yaml"),
    ],
)  # fmt: skip
def test_hostile_files_end_in_one_clear_line(tmp_path: Path, name: str, text: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(CalibrationError, match=says) as caught:
        read_rig_file(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_files_never_crash(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Bytes of good files of each kind, changed: a rig or an error."""
    folder = tmp_path_factory.mktemp("damaged")
    kind = data.draw(st.sampled_from(["kalibr.yaml", "cv.yaml", "cv.xml", "cv.json"]))
    path = folder / kind
    if kind == "kalibr.yaml":
        path.write_text(yaml.safe_dump(camchain(IMU)))
    else:
        opencv_file(path, FISHEYE)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(
            st.sampled_from(b"\x00\xff\n\t :-[]{}&*!<>9e.")
        )
    path.write_bytes(bytes(raw))
    try:
        read_rig_file(path)
    except CalibrationError as error:
        assert str(error).isprintable()


# ---------------------------------------------------------------------- real


@pytest.mark.real
def test_the_fisheye_rig(tmp_path: Path, recordings: Path) -> None:
    """Four fisheye cameras with files as `cv2.fisheye` wrote them, no extrinsics: equidistant, and OpenCV's projection."""
    folder = recordings / "fisheye_rig" / "yaml"
    sides = ["back", "front", "left", "right"]
    specs = [CameraSpec(side, size=(960, 640), info=False, yaw_deg=90.0 * i) for i, side in enumerate(sides)]
    rig = rig_of(write_log(tmp_path, "mcap", specs, frames=1), rig_file=folder)
    assert sorted(rig.cameras) == sides
    rng = np.random.default_rng(1)
    for side in sides:
        lens = rig.cameras[side].intrinsics
        assert lens.model == "equidistant"
        storage = cv2.FileStorage(str(folder / f"{side}.yaml"), cv2.FILE_STORAGE_READ)
        k, d = storage.getNode("camera_matrix").mat(), storage.getNode("dist_coeffs").mat()
        points = rng.uniform([-2, -2, 0.5], [2, 2, 4], (200, 3))
        theirs, _ = cv2.fisheye.projectPoints(points[:, None], np.zeros(3), np.zeros(3), k, d)
        assert lens.project(points) == pytest.approx(theirs[:, 0], abs=1e-6)
