"""Commands as a user meets them: one clear line and the right exit status for every mistake."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from log_writer import CameraSpec, write_log
from patch_detector import PatchDetector, patches

from perception_batch import pipeline
from perception_batch.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process with the patch detector: (status, stdout, stderr)."""
    monkeypatch.setattr(pipeline, "open_detector", PatchDetector)

    def run(*words: object) -> tuple[int, str, str]:
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def make_log(folder: Path, container: Any = "mcap", **options: Any) -> Path:
    specs = [CameraSpec(f"cam_{n}", size=(160, 96), draw=patches, encoding="png") for n in ("a", "b")]
    return write_log(folder, container, specs, **{"frames": 6, **options})


def drives_in(out: Path) -> set[str]:
    """Names of the drives' folders; what a collection keeps for itself begins with a dot."""
    return {p.name for p in out.iterdir() if not p.name.startswith(".")} if out.is_dir() else set()


def one_line(err: str) -> str:
    """The single error line; a traceback or a second line fails."""
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    assert lines[0].startswith("perception-batch: error: ")
    return lines[0]


def _text_file(tmp_path: Path) -> Path:
    path = tmp_path / "notes.mcap"
    path.write_text("these are not the bytes you are looking for")
    return path


def _empty_bag(tmp_path: Path) -> Path:
    path = tmp_path / "empty.bag"
    path.touch()
    return path


def _cut_bag(tmp_path: Path, share: float = 0.0) -> Path:
    """A bag of which only its beginning is there; by default nothing of use."""
    path = make_log(tmp_path, "bag1")
    data = path.read_bytes()
    path.write_bytes(data[: max(60, round(share * len(data)))])
    return path


def _empty_folder(tmp_path: Path) -> Path:
    path = tmp_path / "nothing"
    path.mkdir()
    return path


def test_a_cut_log_gives_what_survived_and_says_what_did_not(cli: Run, tmp_path: Path) -> None:
    log = _cut_bag(tmp_path, 0.6)
    status, out, _ = cli("inspect", log, "--full", "--json")
    facts = json.loads(out)
    assert status == 0
    assert facts["losses"]
    seen = sum(camera["seen"] for camera in facts["cameras"].values())
    assert 0 < seen < 12
    status, _, _ = cli("run", log, "--out", tmp_path / "out", "--no-video")
    manifest = json.loads((tmp_path / "out" / log.stem / "run.json").read_text())
    counts = manifest["counts"]
    assert status == manifest["exit_status"] == (3 if manifest["status"] == "partial" else 0)
    assert counts["frames_in_log"] == seen
    assert counts["frames_used"] + counts["frames_unused"] + counts["frames_undecodable"] == seen
    assert manifest["losses"]


@pytest.mark.parametrize(
    ("make", "status", "says"),
    [
        (lambda p: p / "missing.bag", 1, "no such file"),
        (_text_file, 1, "notes.mcap"),
        (_empty_bag, 1, "empty"),
        (_cut_bag, 1, "bag"),
        (_empty_folder, 1, "holds no log"),
    ],
)
@pytest.mark.parametrize("command", ["run", "inspect"])
def test_what_is_no_log_gets_one_line(
    cli: Run, tmp_path: Path, make: Callable[[Path], Path], status: int, says: str, command: str
) -> None:
    words = [command, make(tmp_path), *(["--out", tmp_path / "out"] if command == "run" else [])]
    got, _, err = cli(*words)
    assert got == status
    assert says in one_line(err)
    assert not (tmp_path / "out").exists()


def test_a_log_without_cameras_can_be_inspected_but_not_run(cli: Run, tmp_path: Path) -> None:
    log = write_log(tmp_path, "mcap", [], ego_speed_mps=3.0, frames=5)
    status, _, err = cli("run", log, "--out", tmp_path / "out")
    assert status == 1
    assert "/tf (tf2_msgs/msg/TFMessage)" in one_line(err)
    status, out, err = cli("inspect", log)
    assert (status, err) == (0, "")
    assert "no camera" in out
    assert "/tf: tf2_msgs/msg/TFMessage" in out
    status, out, _ = cli("inspect", log, "--json")
    assert status == 0
    assert json.loads(out)["cameras"] == {}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--cameras", "cam_a,cam_x"], "cam_x; it has: cam_a, cam_b"),
        (["--cameras", ","], "--cameras"),
        (["--set", "detect.scor=1"], "did you mean 'score'"),
        (["--set", "cameras.cam_q.rotate_deg=90"], "cam_q"),
        (["--set", "sync.reference=cam_q"], "cam_q"),
        (["--set", "sync.tolerance_ms=60"], "half the median period"),
        (["--set", "cameras.cam_a.roi_px=[0,0,900,900]"], "cam_a"),
        (["--set", "fuse.base_frame=nowhere"], "nowhere"),
        (["--config", "/nonexistent.yaml"], "no such settings file"),
        (["--rig", "/nonexistent.yaml"], "/nonexistent.yaml"),
        (["--start", "soon"], "expected seconds"),
        (["--start", "3", "--stop", "2"], "is not before"),
        (["--drive-name", "{date}"], "{stem} and {parent}"),
        (["--workers", "0"], "decode.workers"),
        (["--engine", "slurm"], "local"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_wrong_options_are_status_2_and_one_line(
    cli: Run, tmp_path: Path, words: list[str], says: str
) -> None:
    status, _, err = cli("run", make_log(tmp_path), "--out", tmp_path / "out", *words)
    assert status == 2, err
    assert says in one_line(err)


def test_nothing_between_start_and_stop(cli: Run, tmp_path: Path) -> None:
    status, _, err = cli("run", make_log(tmp_path), "--out", tmp_path / "out", "--start", "100")
    assert status == 1
    assert "no camera frame" in one_line(err)


def test_missing_weights_and_no_detector(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = make_log(tmp_path)
    (tmp_path / "not.pt").write_bytes(b"PK\x03\x04 nothing of the kind")
    for name, says in (("gone/none.pt", "none.pt"), (str(tmp_path / "not.pt"), "not.pt")):
        assert main(["run", str(log), "--out", str(tmp_path / "out"), "--model", name]) == 2
        assert says in one_line(capsys.readouterr().err)


def test_an_output_that_cannot_be_written(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = cli("run", make_log(tmp_path), "--out", tmp_path / "file")
    assert status == 2
    assert "file" in one_line(err)


def test_other_settings_are_refused_and_overwrite_replaces(cli: Run, tmp_path: Path) -> None:
    log = make_log(tmp_path)
    assert cli("run", log, "--out", tmp_path / "out", "--no-video")[0] == 0
    status, _, err = cli("run", log, "--out", tmp_path / "out", "--no-video", "--set", "detect.image_size=96")
    assert status == 2
    assert "detect.image_size" in one_line(err)
    status, out, _ = cli(
        "run", log, "--out", tmp_path / "out", "--no-video", "--set", "detect.image_size=96", "--overwrite"
    )
    assert (status, "done" in out) == (0, True)
    status, out, _ = cli("run", log, "--out", tmp_path / "out", "--no-video", "--set", "detect.image_size=96")
    assert (status, "nothing to do" in out) == (0, True)
    assert not (tmp_path / "out" / "log" / "annotated.mp4").exists()


def test_a_folder_of_drives_with_a_bad_one_among_them(cli: Run, tmp_path: Path) -> None:
    drives = tmp_path / "night"
    make_log(drives, "bag1", name="first")
    make_log(drives, "mcap", name="second")
    (drives / "broken.bag").write_bytes(b"#ROSBAG V2.0\n and then nothing")
    status, out, err = cli("run", drives, "--out", tmp_path / "out", "--no-video")
    assert status == 3
    assert "broken" in one_line(err)
    assert drives_in(tmp_path / "out") == {"first", "second"}
    assert "first: complete" in out
    everything = pd.concat(pd.read_parquet(p) for p in (tmp_path / "out").glob("*/detections.parquet"))
    assert set(everything.drive) == {"first", "second"}


def test_two_drives_of_one_name_need_a_template(cli: Run, tmp_path: Path) -> None:
    for parent in ("mon", "tue"):
        make_log(tmp_path / parent, "bag1", name="drive")
    logs = [tmp_path / p / "drive.bag" for p in ("mon", "tue")]
    status, _, err = cli("run", *logs, "--out", tmp_path / "out")
    assert status == 2
    assert "--drive-name" in one_line(err)
    words = ["--drive-name", "{parent}_{stem}", "--no-video"]
    assert cli("run", *logs, "--out", tmp_path / "out", *words)[0] == 0
    assert drives_in(tmp_path / "out") == {"mon_drive", "tue_drive"}


def test_dry_run_writes_nothing(cli: Run, tmp_path: Path) -> None:
    status, out, _ = cli("run", make_log(tmp_path), "--out", tmp_path / "out", "--dry-run")
    assert status == 0
    assert "2 cameras, 12 frames" in out
    assert not (tmp_path / "out").exists()


def test_inspect_for_programs(cli: Run, tmp_path: Path) -> None:
    log = make_log(tmp_path, ego_speed_mps=2.0)
    status, out, _ = cli("inspect", log, "--json", "--sync")
    assert status == 0
    facts = json.loads(out)
    assert {n: c["frames"] for n, c in facts["cameras"].items()} == {"cam_a": 6, "cam_b": 6}
    assert facts["cameras"]["cam_a"]["calibration"]["source"]
    assert facts["sync"]["timesteps"] == 6
    assert facts["ego"]["source"] == "tf"
    assert facts["base_frame"] == "base_link"


def test_inspect_writes_a_rig_and_a_config_that_run_takes(cli: Run, tmp_path: Path) -> None:
    log = make_log(tmp_path)
    rig, config = tmp_path / "rig.yaml", tmp_path / "my.yaml"
    assert cli("inspect", log, "--write-rig", rig, "--suggest-config", config)[0] == 0
    words = ["--no-video", "--rig", rig, "--config", config]
    assert cli("run", log, "--out", tmp_path / "out", *words)[0] == 0
    written = json.loads((tmp_path / "out" / "log" / "rig.json").read_text())
    assert written["cameras"]["cam_a"]["source"] == "rig.yaml"
    status, _, err = cli("inspect", log, "--write-rig", rig)
    assert status == 2
    assert "exists" in one_line(err)


@pytest.mark.parametrize("command", ["fuse", "render"])
def test_a_folder_without_a_run(cli: Run, tmp_path: Path, command: str) -> None:
    status, _, err = cli(command, tmp_path)
    assert status == 1
    assert "run.json is missing" in one_line(err)


def test_fuse_and_render_commands(cli: Run, tmp_path: Path) -> None:
    log = make_log(tmp_path)
    assert cli("run", log, "--out", tmp_path / "out")[0] == 0
    run = tmp_path / "out" / "log"
    before = len(pd.read_parquet(run / "objects.parquet"))
    assert cli("fuse", run, "--set", "detect.score=0.85")[0] == 0
    assert len(pd.read_parquet(run / "objects.parquet")) < before
    assert json.loads((run / "run.json").read_text())["config"]["detect"]["score"] == 0.85
    assert cli("render", run, "--set", "render.width_px=640")[0] == 0
    shutil.rmtree(log)
    status, _, err = cli("render", run)
    assert status == 1
    assert "--log-root" in one_line(err)


def test_hostile_names_stay_text(cli: Run, tmp_path: Path) -> None:
    nasty = "/cam\x1b[31m/../../etc/image_raw/compressed"
    spec = CameraSpec("cam", topic=nasty, size=(96, 64), draw=patches, encoding="png")
    log = write_log(tmp_path, "mcap", [spec], frames=4)
    for words in (["inspect", log], ["run", log, "--out", tmp_path / "out"]):
        status, out, err = cli(*words)
        assert status == 0, err
        assert "\x1b[31m" not in out + err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"log"}


_SLOW = """
import sys, time
sys.path.insert(0, {tests!r})
from patch_detector import PatchDetector
from perception_batch import pipeline
class Slow(PatchDetector):
    def detect(self, *a):
        time.sleep(0.15)
        return super().detect(*a)
pipeline.open_detector = Slow
from perception_batch.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_at_a_timestep(tmp_path: Path, number: signal.Signals) -> None:
    log = make_log(tmp_path, frames=120)
    code = _SLOW.format(tests=str(Path(__file__).parent))
    words = ["run", str(log), "--out", str(tmp_path / "out"), "--set", "detect.batch_size=2"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    parts = tmp_path / "out" / "log" / ".video_parts"
    deadline = time.monotonic() + 60
    while (
        not any(path.stat().st_size > 0 for path in parts.glob("*.partial")) and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert number.name in one_line(err)
    manifest = json.loads((tmp_path / "out" / "log" / "run.json").read_text())
    assert (manifest["status"], manifest["exit_status"]) == ("unfinished", 128 + number)
    counts = manifest["counts"]
    assert 0 < counts["timesteps"] < 120
    assert len(pd.read_parquet(tmp_path / "out" / "log" / "frames.parquet")) == counts["frames_in_log"]
    assert not list((tmp_path / "out" / "log").glob("*.partial"))


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("libGL.so.1: cannot open shared object file: No such file or directory", "apt install libgl1"),
        ("No module named 'cv2'", "install again"),
    ],
)
def test_a_package_that_cannot_be_imported_is_one_line(tmp_path: Path, said: str, advice: str) -> None:
    """On a server without a desktop OpenCV lacks libGL: no traceback, and what to install."""
    (tmp_path / "cv2.py").write_text(f"raise ImportError({said!r})\n")
    done = subprocess.run(
        [sys.executable, "-m", "perception_batch", "simulate", str(tmp_path / "out"), "--duration", "1"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert said.split(":", maxsplit=1)[0] in done.stderr
    assert advice in done.stderr
