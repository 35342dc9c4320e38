"""The same seed in every container and encoding, read back by other people's readers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from simulate.flat_stage import SPEED_MPS, flat_stage
from simulate.read_back import Image, pictures, psnr_db, read_all

from perception_batch.api import open_log
from perception_batch.simulate.drive import simulate
from perception_batch.simulate.scene import World
from perception_batch.simulate.settings import START_NS, Faults, SimulateSettings
from perception_batch.simulate.stage import Stage, real_stage
from perception_batch.simulate.truth import load_truth
from perception_batch.types import EncodedFrame

CONTAINERS = ("bag", "sqlite3", "mcap", "foxglove")
IMAGES = ("jpeg", "png", "rgb8", "bayer_rggb8", "nv12", "h264", "h265")
SETTINGS = SimulateSettings(
    preset="fisheye4",
    duration_s=0.6,
    size_px=(96, 64),
    trigger_topic=True,
    faults=Faults(stagger_ms=30, jitter_ms=2, drop=0.1, log_jitter_ms=2),
)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[int, int, Image]]]:
    log = simulate(
        tmp_path_factory.mktemp("png") / "out",
        replace(SETTINGS, image="png", container="bag"),
        stage=flat_stage(),
    )
    out = {camera: pictures(log, camera) for camera in SETTINGS.cameras}
    assert sum(map(len, out.values())) > 15
    return out


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("image", IMAGES)
def test_same_stamps_and_same_pixels(
    tmp_path: Path, reference: dict[str, list[tuple[int, int, Image]]], container: str, image: str
) -> None:
    settings = replace(SETTINGS, container=container, image=image)  # type: ignore[arg-type]
    log = simulate(tmp_path / "out", settings, stage=flat_stage())
    for camera, expected in reference.items():
        got = pictures(log, camera)
        assert [(s, t) for s, t, _ in got] == [(s, t) for s, t, _ in expected]
        for (_, _, a), (_, _, b) in zip(got, expected, strict=True):
            if image in ("png", "rgb8"):
                np.testing.assert_array_equal(a, b)
            else:
                assert psnr_db(a, b) > 35
    truth = load_truth(tmp_path / "out")
    rows = truth.timesteps.filter(truth.timesteps["messages"].to_numpy() > 0).to_pylist()
    for camera, expected in reference.items():
        assert [(r["stamp_ns"], r["log_ns"]) for r in rows if r["camera"] == camera] == [
            (s, t) for s, t, _ in expected
        ]


@pytest.mark.parametrize("container", CONTAINERS)
def test_everything_beside_the_pictures(tmp_path: Path, container: str) -> None:
    settings = replace(SETTINGS, container=container, faults=Faults())  # type: ignore[arg-type]
    log = simulate(tmp_path / "out", settings, stage=flat_stage())
    seen = read_all(log)
    assert [s.log_ns for s in seen] == sorted(s.log_ns for s in seen)
    topics = {s.topic for s in seen}
    assert topics == {"/tf", "/tf_static", "/odom", "/trigger"} | {
        f"/{c}/{last}" for c in settings.cameras for last in ("image_raw/compressed", "camera_info")
    }
    assert [s.stamp_ns for s in seen if s.topic == "/trigger"] == [START_NS + i * 10**8 for i in range(6)]
    (static,) = (s.message for s in seen if s.topic == "/tf_static")
    foxglove = container == "foxglove"
    children = [t.child_frame_id for t in static.transforms]
    assert children == [f"{c}_optical" for c in settings.cameras]
    odometry = [s for s in seen if s.topic == "/odom"]
    assert odometry[0].stamp_ns < START_NS
    assert odometry[-1].stamp_ns > START_NS + 600_000_000
    steps = np.diff([s.stamp_ns for s in odometry])
    assert set(steps) == {20_000_000}
    for a, b in zip(odometry, (s for s in seen if s.topic == "/tf"), strict=True):
        assert a.stamp_ns == (
            b.message.transforms[0].timestamp.ToNanoseconds()
            if foxglove
            else b.message.transforms[0].header.stamp.sec * 10**9
            + b.message.transforms[0].header.stamp.nanosec
        )
        x = a.message.pose.position.x if foxglove else a.message.pose.pose.position.x
        moved = b.message.transforms[0]
        assert x == (moved.translation.x if foxglove else moved.transform.translation.x)
        speed = a.message.linear_velocity.x if foxglove else a.message.twist.twist.linear.x
        assert speed == SPEED_MPS
    info = next(s.message for s in seen if s.topic == "/cam_left/camera_info")
    lens = load_truth(tmp_path / "out").meta["rig"]["cameras"]["cam_left"]["intrinsics"]
    lower = not foxglove and container != "bag"
    k, d = (info.k, info.d) if lower else (info.K, info.D)
    assert list(k) == [lens["fx_px"], 0, lens["cx_px"], 0, lens["fy_px"], lens["cy_px"], 0, 0, 1]
    assert list(d) == lens["distortion"]
    assert info.distortion_model == ("kannala_brandt" if foxglove else "equidistant")


def test_camera_info_each_second_only(tmp_path: Path) -> None:
    settings = replace(SETTINGS, duration_s=2.5, camera_info="second", faults=Faults())
    log = simulate(tmp_path / "out", settings, stage=flat_stage())
    stamps = [s.stamp_ns for s in read_all(log) if s.topic == "/cam_front/camera_info"]
    assert stamps == [START_NS, START_NS + 10**9, START_NS + 2 * 10**9]


@pytest.mark.parametrize("container", ["bag", "sqlite3", "mcap"])
@pytest.mark.parametrize("image", ["jpeg", "png", "rgb8"])
def test_our_own_reader_finds_the_rig_and_every_frame(tmp_path: Path, container: str, image: str) -> None:
    settings = replace(SETTINGS, container=container, image=image, preset="surround6")  # type: ignore[arg-type]
    log = simulate(tmp_path / "out", settings, stage=flat_stage())
    truth = load_truth(tmp_path / "out")
    with open_log(log) as drive:
        rig = drive.rig(drive.select(None))
        assert rig.base_frame == "base_link"
        assert not rig.uncalibrated
        for name, stated in truth.meta["rig"]["cameras"].items():
            camera = rig.cameras[name]
            for key in ("fx_px", "fy_px", "cx_px", "cy_px"):
                assert getattr(camera.intrinsics, key) == pytest.approx(stated["intrinsics"][key], rel=1e-12)
            pose = stated["base_SE3_camera"]
            np.testing.assert_allclose(camera.base_SE3_camera.translation_m, pose["position_m"], atol=1e-12)
            np.testing.assert_allclose(
                camera.base_SE3_camera.quaternion_xyzw(), pose["quaternion_xyzw"], atol=1e-12
            )
        frames = [f for f in drive.stream(drive.select(None)) if isinstance(f, EncodedFrame)]
    rows = truth.timesteps.filter(truth.timesteps["messages"].to_numpy() > 0).to_pylist()
    expected = sorted((r["camera"], r["stamp_ns"], r["log_ns"]) for r in rows)
    assert sorted((f.camera, f.stamp_ns, f.log_ns) for f in frames) == expected
    assert {(f.width_px, f.height_px, f.encoding) for f in frames} == {(96, 64, image)}


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, container: str) -> None:
    settings = replace(SETTINGS, container=container, image="h264")  # type: ignore[arg-type]

    def written(name: str, seed: int = 0) -> dict[str, bytes]:
        simulate(tmp_path / name, replace(settings, seed=seed), stage=flat_stage())
        folder = tmp_path / name
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    one, again, other = written("one"), written("again"), written("other", 1)
    assert one == again
    assert other.keys() == one.keys()
    assert all(one[name] != other[name] for name in one if "drive." in name or "timesteps" in name)


@pytest.fixture(scope="module")
def real() -> Stage:
    """The real world, drawer and sensor; the world is built once."""
    stage = real_stage()
    built: list[World] = []

    def world(settings: SimulateSettings, length_s: float) -> World:
        if not built:
            built.append(stage.world(settings, length_s))
        return built[0]

    return replace(stage, world=world)


@pytest.mark.parametrize("size_px", [(960, 600), (320, 200)])
def test_the_real_drive_reads_back_from_every_encoding(
    tmp_path: Path, real: Stage, size_px: tuple[int, int]
) -> None:
    # One picture for all: the one behind the low-pass filter that a Bayer mosaic has before it.
    settings = SimulateSettings(preset="front", duration_s=0.3, size_px=size_px, low_pass=True)
    expected: list[tuple[int, int, Image]] = []
    for number, image in enumerate(("png", *IMAGES)):
        container = CONTAINERS[number % 4]
        log = simulate(
            tmp_path / f"{number}",
            replace(settings, image=image, container=container),  # type: ignore[arg-type]
            stage=real,
        )
        got = pictures(log, "cam_front")
        expected = expected or got
        assert [(s, t) for s, t, _ in got] == [(s, t) for s, t, _ in expected]
        assert len(got) == 3
        for (_, _, a), (_, _, b) in zip(got, expected, strict=True):
            assert psnr_db(a, b) == 99.0 if image in ("png", "rgb8") else psnr_db(a, b) > 35
        assert load_truth(tmp_path / f"{number}").boxes.num_rows > 0


def test_the_real_drive_is_the_same_to_the_byte(tmp_path: Path) -> None:
    settings = SimulateSettings(duration_s=0.1, size_px=(240, 160), image="png", seed=11)
    for name in ("a", "b"):
        simulate(tmp_path / name, settings)
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert len(files) == 8
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_bayer_mosaic_has_a_low_pass_before_it_and_other_pictures_have_it_on_demand(
    tmp_path: Path, real: Stage
) -> None:
    settings = SimulateSettings(preset="front", duration_s=0.1, size_px=(320, 200))

    def picture(name: str, image: str, low_pass: bool | None) -> Image:
        chosen = replace(settings, image=image, low_pass=low_pass)  # type: ignore[arg-type]
        return pictures(simulate(tmp_path / name, chosen, stage=real), "cam_front")[0][2]

    sharp, soft = picture("sharp", "png", None), picture("soft", "png", True)
    assert np.array_equal(sharp, picture("without", "png", False)) and not np.array_equal(sharp, soft)
    bayer = picture("bayer", "bayer_rggb8", None)
    assert np.array_equal(bayer, picture("bayer_soft", "bayer_rggb8", True))
    assert psnr_db(bayer, soft) > 35 > psnr_db(picture("bayer_sharp", "bayer_rggb8", False), sharp)
