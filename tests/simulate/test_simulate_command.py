from __future__ import annotations

import argparse
import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from simulate.flat_stage import FlatDrawer, flat_stage

from perception_batch.calibration import Camera, Intrinsics, Rig
from perception_batch.errors import CalibrationError, ConfigError, WriteError
from perception_batch.geometry import SE3
from perception_batch.simulate.command import EXAMPLE, add_arguments, run_command, settings_of
from perception_batch.simulate.drive import simulate
from perception_batch.simulate.rigs import check_invertible, lens_across, rig_of
from perception_batch.simulate.scene import Drawing, World
from perception_batch.simulate.settings import CAMERAS, Freeze, Jump, SimulateSettings
from perception_batch.simulate.truth import load_truth

SMALL = SimulateSettings(preset="front", duration_s=0.5, size_px=(64, 48))


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(words)


def test_the_defaults_of_the_words_are_those_of_the_settings() -> None:
    assert settings_of(parse("out")) == SimulateSettings()


def test_every_word_reaches_its_setting() -> None:
    words = EXAMPLE.partition("simulate ")[2].split()
    settings = settings_of(parse(*words))
    assert (settings.duration_s, settings.container, settings.faults.drop) == (20, "bag", 0.02)
    assert settings.faults.clock_jump == {"cam_back": Jump(-50, 8)}
    words = [
        "out",
        "--preset",
        "fisheye4",
        "--rate",
        "20",
        "--size",
        "640X480",
        "--image",
        "h265",
        "--seed",
        "7",
        "--time-of-day",
        "night",
        "--hills",
        "--density",
        "0.5",
        "--jpeg-quality",
        "80",
        "--no-noise",
        "--no-low-pass",
        "--trigger",
        "--camera-info",
        "second",
        "--ego-rate",
        "25",
        "--truth-radius",
        "60",
        "--stagger",
        "20",
        "--jitter",
        "1",
        "--exposure-offset",
        "3",
        "--exposure-offset",
        "cam_left=-4",
        "--drop-burst",
        "3",
        "--duplicate",
        "0.1",
        "--late",
        "0.2",
        "--late-by",
        "90",
        "--log-delay",
        "8",
        "--log-jitter",
        "2",
        "--bunch",
        "100",
        "--bunch-every",
        "2",
        "--clock-drift",
        "cam_back=40",
        "--late-start",
        "cam_right=1.5",
        "--freeze",
        "cam_back=2+0.5",
    ]
    settings = settings_of(parse(*words))
    faults = settings.faults
    assert (settings.preset, settings.rate_hz, settings.size_px, settings.image) == (
        "fisheye4",
        20,
        (640, 480),
        "h265",
    )
    assert (settings.seed, settings.time_of_day, settings.hills, settings.density) == (7, "night", True, 0.5)
    assert (settings.jpeg_quality, settings.noise, settings.trigger_topic) == (80, False, True)
    assert settings.low_pass is False
    assert (settings.camera_info, settings.ego_rate_hz, settings.truth_radius_m) == ("second", 25, 60)
    assert (faults.stagger_ms, faults.jitter_ms, faults.drop_burst, faults.duplicate) == (20, 1, 3, 0.1)
    assert (faults.late, faults.late_ms, faults.log_delay_ms, faults.log_jitter_ms) == (0.2, 90, 8, 2)
    assert (faults.bunch_ms, faults.bunch_every_s) == (100, 2)
    assert faults.exposure_offset_ms == {"cam_front": 3, "cam_left": -4, "cam_right": 3, "cam_back": 3}
    assert faults.clock_drift_ppm == {"cam_back": 40}
    assert faults.late_start_s == {"cam_right": 1.5}
    assert faults.freeze == {"cam_back": Freeze(2, 0.5)}


@pytest.mark.parametrize(
    "words",
    [
        "--duration -1",
        "--duration nan",
        "--duration inf",
        "--rate 0",
        "--rate 1e9",
        "--size 0x0",
        "--size 100000x600",
        "--size big",
        "--size 960x600x3",
        "--size 2000x100",
        "--size 961x600 --image nv12",
        "--preset ring9",
        "--format zip",
        "--image gif",
        "--time-of-day noon",
        "--camera-info never",
        "--seed -1",
        "--density 99",
        "--jpeg-quality 0",
        "--drop 2",
        "--clock-jump cam_front=5",
        "--clock-jump cam_front=a@b",
        "--freeze cam_front=1",
        "--late-start cam_up=1",
        "--exposure-offset =5",
        "--truncate 0",
        "--flip-bits -3",
    ],
)
def test_impossible_options_are_refused_with_what_is_allowed(words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"allowed|these are|take "):
        run_command(parse(str(tmp_path / "out"), *words.split()))
    assert not list(tmp_path.iterdir())


def test_names_from_the_user_are_printed_safely(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_of(parse("out", "--late-start", "cam\x1b[31m=1"))
    assert "\x1b" not in str(caught.value)


def test_importing_the_words_costs_nothing() -> None:
    code = (
        "import argparse, sys\nfrom perception_batch.simulate.command import add_arguments\n"
        "parser = argparse.ArgumentParser()\nadd_arguments(parser)\nparser.format_help()\n"
        "heavy = {'numpy', 'cv2', 'pyarrow', 'av', 'rosbags', 'mcap', 'google', 'yaml', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_command_writes_a_drive_its_truth_and_a_damaged_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("perception_batch.simulate.drive.real_stage", flat_stage)
    out = tmp_path / "deep" / "out"
    words = f"{out} --preset front --duration 0.5 --size 64x48 --truncate 0.5 --no-index"
    assert run_command(parse(*words.split())) == 0
    assert capsys.readouterr().out.split() == [
        str(out / "drive"),
        str(out / "truth"),
        str(out / "damaged" / "drive"),
    ]
    assert sorted(p.name for p in out.iterdir()) == ["damaged", "drive", "truth"]
    assert load_truth(out).meta["cycles"] == 5
    with pytest.raises(WriteError, match="exists"):
        run_command(parse(*words.split()))


@pytest.mark.parametrize("kind", ["file", "empty folder", "broken link", "partial"])
def test_what_exists_is_not_overwritten(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "empty folder":
        out.mkdir()
    elif kind == "broken link":
        out.symlink_to(tmp_path / "nowhere")
    else:
        (tmp_path / "out.partial").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(WriteError, match="exists"):
        simulate(out, SMALL, stage=flat_stage())
    assert sorted(tmp_path.rglob("*")) == before


class _Fails(FlatDrawer):
    error: BaseException = OSError(errno.ENOSPC, "No space left on device")

    def draw(self, world: World, time_s: float) -> Drawing:
        if len(self.times_s) == 2:
            raise self.error
        return super().draw(world, time_s)


@pytest.mark.parametrize("container", ["bag", "sqlite3", "mcap", "foxglove"])
def test_a_drive_that_fails_leaves_nothing(tmp_path: Path, container: str) -> None:
    settings = replace(SMALL, container=container)  # type: ignore[arg-type]
    with pytest.raises(WriteError, match="disk is full") as caught:
        simulate(tmp_path / "out", settings, stage=replace(flat_stage(), drawer=_Fails))
    assert caught.value.exit_status == 75

    class Stopped(_Fails):
        error = KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "out", settings, stage=replace(flat_stage(), drawer=Stopped))
    assert not list(tmp_path.iterdir())


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[Any] = []
    simulate(tmp_path / "out", SMALL, lambda done, total: told.append((done, total)), stage=flat_stage())
    assert told == [(i, 5) for i in range(1, 6)]


@pytest.mark.parametrize("preset", list(CAMERAS))
@pytest.mark.parametrize("size", [(960, 600), (64, 48), (600, 960), (320, 320), (8000, 1000), (64, 256)])
def test_every_lens_of_the_presets_can_be_inverted_and_scales(preset: str, size: tuple[int, int]) -> None:
    rig = rig_of(SimulateSettings(preset=preset, size_px=size))  # type: ignore[arg-type]
    assert tuple(rig.cameras) == CAMERAS[preset]  # type: ignore[index]
    reference = rig_of(
        SimulateSettings(preset=preset, size_px=(size[0] * 2 % 16384 or 2, size[1] * 2))
        if max(size) < 4096
        else SimulateSettings(preset=preset, size_px=size)
    )  # type: ignore[arg-type]
    for name, camera in rig.cameras.items():
        scale = reference.cameras[name].intrinsics.fx_px / camera.intrinsics.fx_px
        assert scale == pytest.approx(reference.cameras[name].intrinsics.width_px / size[0])


def test_surround6_has_three_lens_models_and_sees_all_round() -> None:
    rig = rig_of(SimulateSettings())
    assert {c.intrinsics.model for c in rig.cameras.values()} == {
        "pinhole",
        "plumb_bob",
        "rational_polynomial",
    }
    seen = np.zeros(360, bool)
    for bearing in range(360):
        a = np.radians(bearing)
        point = np.array([[50 * np.cos(a), 50 * np.sin(a), 1.4]])
        for camera in rig.cameras.values():
            uv = camera.intrinsics.project(camera.base_SE3_camera.inverse().apply(point))
            seen[bearing] |= bool(np.isfinite(uv).all() and (uv > 0).all() and (uv < (960, 600)).all())
    assert seen.all()


def test_a_fisheye_sees_190_degrees() -> None:
    lens = lens_across("equidistant", (960, 600), 190)
    left, right = lens.unproject(np.array([[-0.5, 299.5], [959.5, 299.5]]))
    assert np.degrees(np.arctan2(right[0], right[2])) == pytest.approx(95)
    assert np.degrees(np.arctan2(left[0], left[2])) == pytest.approx(-95)


def folding_rig() -> Rig:
    lens = Intrinsics("plumb_bob", 640, 480, 300.0, 300.0, 319.5, 239.5, (-0.5, 0.0, 0.0, 0.0, 0.0))
    return Rig("base_link", {"wide": Camera("wide", lens, SE3.identity(), "test")}, {})


def test_a_lens_that_cannot_be_inverted_over_the_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be inverted over the image of 640x480.*allowed are"):
        simulate(tmp_path / "out", SimulateSettings(rig=folding_rig()), stage=flat_stage())
    file = tmp_path / "rig.yaml"
    file.write_text(yaml.safe_dump(folding_rig().to_dict()))
    with pytest.raises(ConfigError, match="cannot be inverted"):
        run_command(parse(str(tmp_path / "out"), "--rig", str(file)))
    check_invertible(rig_of(SMALL).cameras["cam_front"])


def test_a_rig_file_brings_its_own_cameras_and_sizes(tmp_path: Path) -> None:
    lens = lens_across("equidistant", (80, 60), 150)
    other = lens_across("pinhole", (64, 48), 60)
    rig = Rig(
        "vehicle",
        {"a": Camera("a", lens, SE3.identity(), "x"), "b": Camera("b", other, SE3.identity(), "x")},
        {},
    )
    file = tmp_path / "rig.json"
    file.write_text(json.dumps(rig.to_dict()))
    settings = settings_of(parse("out", "--rig", str(file), "--duration", "0.2", "--late-start", "b=0.1"))
    assert settings.cameras == ("a", "b")
    log = simulate(tmp_path / "out", settings, stage=flat_stage())
    assert log.is_dir()
    assert set(load_truth(tmp_path / "out").meta["rig"]["cameras"]) == {"a", "b"}


@pytest.mark.parametrize(
    "text", ["[1, 2]", "{cameras: 3}", "cameras: {a: {intrinsics: 5}}", "{", "cameras: {}"]
)
def test_a_rig_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "rig.yaml"
    file.write_text(text)
    with pytest.raises((ConfigError, CalibrationError)):
        run_command(parse(str(tmp_path / "out"), "--rig", str(file)))
