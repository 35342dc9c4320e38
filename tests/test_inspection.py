"""`inspect`: figures against what was written into the log, and a suggested config that works."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from log_writer import START_NS, CameraSpec, ring, write_log

from perception_batch.config import RunConfig, load_config, parse_config
from perception_batch.errors import ConfigError, WriteError
from perception_batch.inspection import inspect_log, look_at, suggested_config
from perception_batch.inspection_sync import look_at_sync, sync_facts
from perception_batch.job import Job, OpenDrive, open_drive

MS = 1_000_000


@contextmanager
def opened(log: Path, config: RunConfig | None = None) -> Iterator[OpenDrive]:
    with open_drive(Job("inspect", (log,), Path(), config or RunConfig())) as drive:
        yield drive


def facts_of(log: Path, config: RunConfig | None = None) -> dict[str, Any]:
    with opened(log, config) as drive:
        return sync_facts(look_at_sync(drive))


def test_a_staggered_log_with_drops(tmp_path: Path) -> None:
    cameras = ring(4)  # 0, 10, 20, 30 ms
    cameras[1].drop = (5, 6, 17)
    cameras[3].drop = (0,)
    sync = facts_of(write_log(tmp_path, cameras=cameras, frames=30))
    assert sync["timesteps"] == 30
    assert sync["incomplete"] == 4
    assert sync["unused"] == {}
    got = sync["cameras"]
    assert [got[c.name]["frames"] for c in cameras] == [30, 27, 30, 29]
    assert [got[c.name]["ok"] for c in cameras] == [30, 27, 30, 29]
    assert [got[c.name]["missing"] for c in cameras] == [0, 3, 0, 1]
    assert [got[c.name]["not_due"] for c in cameras] == [0, 0, 0, 0]
    assert [len(got[c.name]["gaps"]) for c in cameras] == [0, 2, 0, 0]
    first, second = got[cameras[1].name]["gaps"]
    assert (first["time_s"], first["duration_s"], first["missing"]) == (0.41, 0.3, 2)
    assert (second["time_s"], second["missing"]) == (1.61, 1)
    reference = sync["reference"]
    phase = {c.name: c.phase_ms for c in cameras}
    for name, camera in got.items():
        assert camera["offset_ms"] == pytest.approx(phase[name] - phase[reference], abs=1e-3)
        assert camera["jitter_ms"] == pytest.approx(0, abs=1e-3)
    # Every timestep has the cameras at 0 and 20 ms; that at 30 ms is missing once.
    assert sync["spread_ms"] == pytest.approx({"p50": 30.0, "p95": 30.0, "p99": 30.0, "max": 30.0})
    assert sync["aligned_ms"]["max"] == pytest.approx(0, abs=1e-3)
    assert sync["tolerances"][0]["tolerance_ms"] == 1
    assert sync["tolerances"][0]["matched"] == dict.fromkeys(phase, 1.0)
    assert sync["tolerances"][0]["complete"] == pytest.approx(26 / 30, abs=1e-4)
    assert sync["tolerances"][0]["complete_without_offsets"] == 0


def test_matched_shares_are_those_of_a_loop(tmp_path: Path) -> None:
    jitter = [0, 3 * MS, -7 * MS, 12 * MS, 0, 0, 26 * MS, 0, 1 * MS, 0]
    slow = CameraSpec("b", stamps_ns=[START_NS + i * 100 * MS + j for i, j in enumerate(jitter)])
    log = write_log(tmp_path, cameras=[CameraSpec("a"), slow], frames=10)
    config = parse_config({"sync": {"reference": "a"}}, "test")
    sync = facts_of(log, config)
    offset = round(sync["cameras"]["b"]["offset_ms"] * MS)
    for row in sync["tolerances"]:
        limit, shares = row["tolerance_ms"], row["matched"]
        near = [
            min(abs(START_NS + i * 100 * MS + j - offset - (START_NS + k * 100 * MS)) for k in range(10))
            for i, j in enumerate(jitter)
        ]
        assert shares["b"] == round(sum(n <= int(limit) * MS for n in near) / 10, 4)
        assert shares["a"] == 1.0


def test_a_camera_that_ends_early_and_one_of_half_the_rate(tmp_path: Path) -> None:
    cameras = [CameraSpec("a"), CameraSpec("b", drop=range(12, 20)), CameraSpec("c", rate_hz=5.0)]
    sync = facts_of(write_log(tmp_path, cameras=cameras, frames=20))
    assert sync["cameras"]["b"]["ok"] == 12
    assert sync["cameras"]["b"]["missing"] == 8
    frames = sum(camera["frames"] for camera in sync["cameras"].values())
    assert sum(c["ok"] for c in sync["cameras"].values()) + sum(sync["unused"].values()) == frames == 52
    assert sync["cameras"]["c"]["not_due"] > 0
    assert sync["cameras"]["c"]["missing"] == 0


def test_bad_stamps_are_counted_and_make_no_gaps(tmp_path: Path) -> None:
    stamps = [START_NS + i * 100 * MS for i in range(20)]
    stamps[7] = 0
    log = write_log(tmp_path, cameras=[CameraSpec("a", stamps_ns=stamps), CameraSpec("b")], frames=20)
    sync = facts_of(log, parse_config({"read": {"clock": "header"}}, "test"))
    assert sync["unused"] == {"bad_stamp": 1}
    assert sync["cameras"]["a"]["frames"] == 20
    assert sync["cameras"]["a"]["ok"] == 19
    assert len(sync["cameras"]["a"]["gaps"]) == 1  # where the frame is missing, and not since 1970
    assert sync["tolerances"][0]["matched"]["a"] == 1.0


def test_one_camera_has_no_spread(tmp_path: Path) -> None:
    sync = facts_of(write_log(tmp_path, cameras=[CameraSpec("a")], frames=5))
    assert sync["spread_ms"] == {}
    assert sync["timesteps"] == 5


def test_a_single_frame(tmp_path: Path) -> None:
    log = write_log(tmp_path, cameras=[CameraSpec("a"), CameraSpec("b", phase_ms=3)], frames=1)
    sync = facts_of(log)
    assert sync["timesteps"] == 1
    assert sync["spread_ms"]["max"] == pytest.approx(3.0)
    with opened(log) as drive:
        facts, _ = look_at(drive, everything=False)
    assert "rate_hz" not in facts["cameras"]["a"]


def test_what_the_head_tells(tmp_path: Path) -> None:
    cameras = [CameraSpec("a", size=(80, 48), encoding="png"), CameraSpec("b", info=False, encoding="rgb8")]
    log = write_log(tmp_path, cameras=cameras, frames=12, ego_speed_mps=5.0)
    with opened(log) as drive:
        facts, _ = look_at(drive, everything=False)
    a, b = facts["cameras"]["a"], facts["cameras"]["b"]
    assert (a["width_px"], a["height_px"], a["encoding"], a["frames"]) == (80, 48, "png", 12)
    assert a["rate_hz"] == pytest.approx(10.0)
    assert a["period_jitter_ms"] == pytest.approx(0, abs=1e-3)
    assert a["calibration"]["fx_px"] == pytest.approx(72.0)
    assert a["calibration"]["position_m"] == [1.5, 0.0, 1.6]
    assert "CameraInfo" in b["uncalibrated"]
    assert facts["ego"]["source"] == "tf"
    assert facts["first_stamp_ns"] == START_NS
    json.dumps(facts, allow_nan=False)


@pytest.mark.parametrize(
    "cameras",
    [
        ring(3),
        [CameraSpec("fast", rate_hz=120.0), CameraSpec("slow", rate_hz=7.0)],
        [CameraSpec("x", topic="/front.left/image_raw/compressed", info=False)],
        [
            CameraSpec("n", topic="/1/image_raw/compressed"),
            CameraSpec("m", topic="/yes/image_raw/compressed"),
        ],
        [CameraSpec("a"), CameraSpec("a2", topic="/a/image_raw", encoding="rgb8")],
    ],
)
def test_the_suggested_config_loads_and_groups_alike(tmp_path: Path, cameras: list[CameraSpec]) -> None:
    log = write_log(tmp_path, cameras=cameras, frames=12)
    with opened(log) as drive:
        text, plain = suggested_config(drive), sync_facts(look_at_sync(drive))
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    config = load_config(path)
    with opened(log, config) as drive:
        again = sync_facts(look_at_sync(drive))
        assert set(drive.selected) == set(config.cameras)
    for key in ("timesteps", "incomplete", "unused", "reference", "spread_ms"):
        assert again[key] == plain[key]


def test_the_suggested_config_of_renamed_cameras_loads(tmp_path: Path) -> None:
    log = write_log(tmp_path, cameras=[CameraSpec("a"), CameraSpec("b")], frames=6)
    config = parse_config({"cameras": {"a": {"rename": "front"}, "b": {"enabled": False}}}, "test")
    with opened(log, config) as drive:
        assert drive.selected == ("front",)
        (tmp_path / "config.yaml").write_text(suggested_config(drive))
    again = load_config(tmp_path / "config.yaml")
    assert again.cameras["front"].topic == "/a/image_raw/compressed"
    with opened(log, again) as drive:
        assert "front" in drive.selected


def shown(capsys: pytest.CaptureFixture[str], log: Path, **options: Any) -> str:
    assert inspect_log((log,), RunConfig(), None, sync=True, **options) == 0
    return capsys.readouterr().out


def test_people_read_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cameras = [CameraSpec("a"), CameraSpec("a2", topic="/a/image_raw", encoding="rgb8"), CameraSpec("b")]
    out = shown(capsys, write_log(tmp_path, cameras=cameras, frames=10))
    assert "10.00 Hz" in out
    assert "a: /a/image_raw/compressed, sensor_msgs/msg/CompressedImage; also /a/image_raw" in out
    assert "10 timesteps (one at each frame of a, every 100.0 ms); 10 (100.0 %)" in out
    assert "what a tolerance would give" in out
    assert "recommended: nothing to set" in out


def test_names_of_a_log_do_not_write_on_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "cam\x1b]0;owned\x07[red]:car:"
    camera = CameraSpec("x", topic=f"/{evil}/image_raw/compressed", frame_id=f"{evil}\n", info=False)
    spare = CameraSpec("x", topic=f"/{evil}/image_raw", encoding="rgb8", info=False)
    out = shown(capsys, write_log(tmp_path, "bag1", cameras=[camera, spare], frames=4))
    assert all(line.isprintable() for line in out.splitlines())
    assert f"also /{evil.encode('unicode_escape').decode()}/image_raw" in out  # no colour, no emoji


def test_programs_read_json_with_the_same_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = write_log(tmp_path, cameras=ring(2), frames=6)
    facts = json.loads(shown(capsys, log, as_json=True))
    assert facts["sync"] == json.loads(json.dumps(facts_of(log)))
    assert facts["losses"] == []


def test_files_that_exist_are_not_replaced(tmp_path: Path) -> None:
    log = write_log(tmp_path, cameras=[CameraSpec("a")], frames=3)
    mine = tmp_path / "mine.yaml"
    mine.write_text("precious")
    for option in ("write_rig_to", "suggest_config_to"):
        with pytest.raises(WriteError, match="exists"):
            inspect_log((log,), RunConfig(), None, **{option: mine})  # type: ignore[arg-type]
    assert mine.read_text() == "precious"


def test_no_calibration_gives_no_rig_file(tmp_path: Path) -> None:
    log = write_log(tmp_path, cameras=[CameraSpec("a", info=False)], frames=3)
    with pytest.raises(ConfigError, match="no calibrated camera"):
        inspect_log((log,), RunConfig(), None, write_rig_to=tmp_path / "rig.yaml")
    assert not (tmp_path / "rig.yaml").exists()


@pytest.mark.real
def test_nuscenes_cameras_fire_over_42_ms(recordings: Path) -> None:
    sync = facts_of(recordings / "nuscenes_sample.bag")
    assert sync["timesteps"] == 1
    assert 40 < sync["spread_ms"]["max"] < 45


def test_a_run_sees_the_head_first_and_the_page_says_where_that_differs(tmp_path: Path) -> None:
    stamps = [START_NS + i * 100 * MS + (20 * MS if i < 40 else 45 * MS) for i in range(200)]
    cameras = [CameraSpec("a"), CameraSpec("b", stamps_ns=stamps)]
    log = write_log(tmp_path, cameras=cameras, frames=200)
    config = parse_config({"sync": {"reference": "a"}, "read": {"head_s": 2.0}}, "test")
    sync = facts_of(log, config)
    assert sync["cameras"]["b"]["offset_ms"] == pytest.approx(45, abs=1)
    (note,) = [n for n in sync["notes"] if "a run plans from the first seconds" in n]
    assert "b lies +20.0 ms from the reference, not +45.0 ms" in note
    assert "sync.offsets_ms.b" in note


def test_the_recommended_words_can_be_used_as_they_stand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cameras = [CameraSpec("a b"), CameraSpec("yes", phase_ms=30), CameraSpec("c", phase_ms=14)]
    log = write_log(tmp_path, cameras=cameras, frames=40)
    config = parse_config({"sync": {"reference": "yes"}}, "test")
    assert inspect_log((log,), config, None, sync=True) == 0
    page = capsys.readouterr().out
    (line,) = [one for one in page.splitlines() if one.startswith("recommended: ")]
    words = shlex.split(line.removeprefix("recommended: "))
    assert words[::2] == ["--set"] * (len(words) // 2)
    again = load_config(None, words[1::2])
    assert again.sync.reference == "yes"
    assert isinstance(again.sync.tolerance_ms, float)
    (line,) = [one for one in page.splitlines() if "or in a config file" in one]
    path = tmp_path / "config.yaml"
    path.write_text(line.split("config file: ")[1])
    assert load_config(path).sync == again.sync


@pytest.mark.parametrize("name", ["plot.png", "plot.svg", "plot.PDF"])
def test_a_picture_of_the_grouping(tmp_path: Path, name: str) -> None:
    cameras = [
        CameraSpec("a$b_{x}$"),
        CameraSpec("b", phase_ms=7, drop=(4, 5)),
        CameraSpec("late", drop=range(12)),
    ]
    log = write_log(tmp_path, cameras=cameras, frames=12)
    assert inspect_log((log,), RunConfig(), None, plot_to=tmp_path / name) == 0
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[Path(name).suffix.lower()]
    assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize(
    "cameras", [[CameraSpec("a")], ring(12), [CameraSpec("a"), CameraSpec("b", phase_ms=3)]]
)
@pytest.mark.parametrize("frames", [1, 3])
def test_a_picture_of_little(tmp_path: Path, cameras: list[CameraSpec], frames: int) -> None:
    log = write_log(tmp_path, cameras=cameras, frames=frames)
    assert inspect_log((log,), RunConfig(), None, plot_to=tmp_path / "plot.png") == 0


def test_a_picture_that_cannot_be(tmp_path: Path) -> None:
    log = write_log(tmp_path, cameras=[CameraSpec("a")], frames=3)
    with pytest.raises(ConfigError, match=r"ends in .png, .svg, .pdf"):
        inspect_log((log,), RunConfig(), None, plot_to=tmp_path / "plot.doc")
    (tmp_path / "mine.png").write_text("precious")
    with pytest.raises(WriteError, match="exists"):
        inspect_log((log,), RunConfig(), None, plot_to=tmp_path / "mine.png")
    with pytest.raises(WriteError, match="cannot be written"):
        inspect_log((log,), RunConfig(), None, plot_to=tmp_path / "no" / "plot.png")


def test_from_python(tmp_path: Path) -> None:
    import perception_batch

    log = write_log(tmp_path, cameras=ring(2), frames=6)
    facts = perception_batch.inspect(log)
    assert facts["sync"] == facts_of(log)
    assert "sync" not in perception_batch.inspect(log, sync=False)
    assert list(perception_batch.inspect([log], cameras=["cam_1"])["sync"]["cameras"]) == ["cam_1"]
