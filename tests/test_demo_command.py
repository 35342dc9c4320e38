"""The demo's words, its drive's places, its scoreboard, and what it says where something is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from perception_batch import demo_command, demo_drive
from perception_batch.cli import main
from perception_batch.demo import Scores, Speed, packaged_model, scoreboard
from perception_batch.demo import model as model_file
from perception_batch.demo_drive import built_in_drive, drive_settings
from perception_batch.errors import ModelError, WriteError
from perception_batch.simulate.settings import SimulateSettings

SHORT = SimulateSettings(duration_s=0.6, rate_hz=5, size_px=(160, 100), seed=6, container="bag")
FRONT = replace(SHORT, preset="front")
MODEL_IS_THERE = Path(model_file.__file__).with_name(model_file.MODEL_NAME).is_file()
SCORES = Scores(100, 23, 574, 6, 1.0, 0.9, {"car": 0.95}, 0.97, 0.98, 0.96, 0.031, 0.6, 0.88, 4, 40.0)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def refuse(folder: Path) -> None:
    """Make a file where a folder is wanted: refused for the superuser too."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("")


def test_the_drive_is_what_is_promised() -> None:
    settings = drive_settings()
    assert settings.cycles * len(settings.cameras) <= 600
    assert settings.time_of_day == "day"
    assert settings.size_px == (640, 400)


def test_the_drive_is_drawn_once_and_kept(tmp_path: Path, cache: Path) -> None:
    told: list[tuple[int, int]] = []
    first = built_in_drive(tmp_path / "out", FRONT, lambda done, total: told.append((done, total)))
    assert first.drawn
    assert first.folder.is_relative_to(cache)
    assert told == [(1, 3), (2, 3), (3, 3)]
    again = built_in_drive(tmp_path / "elsewhere", FRONT)
    assert (again.folder, again.drawn) == (first.folder, False)
    assert [path.name for path in first.folder.parent.iterdir()] == [first.folder.name]
    (again.truth / "meta.json").unlink()  # half cleared away: drawn again
    assert built_in_drive(tmp_path / "out", FRONT).drawn


def test_another_version_has_another_drive(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_drive, "_draw", lambda folder, *_: drawn.append(folder))
    drawn: list[Path] = []
    first = built_in_drive(tmp_path, FRONT)
    monkeypatch.setattr(demo_drive, "__version__", "0.0.0")
    assert built_in_drive(tmp_path, FRONT).folder != first.folder
    assert built_in_drive(tmp_path, replace(FRONT, seed=7)).folder not in drawn[:2]


def test_without_a_cache_the_drive_lies_in_out(tmp_path: Path, cache: Path) -> None:
    refuse(cache)
    drive = built_in_drive(tmp_path / "out", FRONT)
    assert drive.drawn
    assert drive.folder.parent == tmp_path / "out"
    assert not built_in_drive(tmp_path / "out", FRONT).drawn
    refuse(tmp_path / "file")
    with pytest.raises(WriteError, match="cannot write here"):
        built_in_drive(tmp_path / "file", FRONT)


def test_without_a_home_there_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", staticmethod(no_home))
    assert built_in_drive(tmp_path / "out", FRONT).folder.parent == tmp_path / "out"


def test_a_missing_detector_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(model_file, "MODEL_NAME", "gone.pt")
    with pytest.raises(ModelError, match="train_demo_model"):
        packaged_model()
    assert main(["demo", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert said.err.count("\n") == 1
    assert "not there" in said.err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_takes_no_files_is_said_before_anything_is_drawn(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse(tmp_path / "out")
    weights = tmp_path / "net.pt"
    weights.write_bytes(b"never read as a model")
    assert main(["demo", "--out", str(tmp_path / "out"), "--model", str(weights)]) != 0
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "--out" in said.err
    assert not cache.exists()


def test_help_is_light() -> None:
    code = (
        "import sys\nfrom perception_batch.cli import main\nmain(['demo', '--help'])\n"
        "print(sorted({'numpy', 'cv2', 'torch', 'ultralytics', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "--open" in done.stdout


def test_the_scoreboard_says_what_there_is() -> None:
    lines = dict(scoreboard(SCORES, Speed(30.0, 12.0, 56)))
    assert "100 of 6 cameras, 23 of them incomplete" in lines["timesteps"]
    assert lines["sync"].startswith("100.0 %")
    assert lines["detection"] == "0.900 AP50 (car 0.95)"
    assert lines["merges"].startswith("0.970 F1 (precision 0.980, recall 0.960)")
    assert lines["position"].startswith("3.1 % of the range, 0.60 m")
    assert lines["tracks"].startswith("0.880 IDF1, 4 switches")
    assert "2.5 times as fast" in lines["speed"]


def test_the_scoreboard_says_what_there_is_not() -> None:
    nothing = Scores(1, 0, 6, 6, None, None, {}, None, None, None, None, None, None, None, 40.0)
    lines = dict(scoreboard(nothing, Speed(None, None)))
    for name in ("sync", "detection", "merges", "position", "tracks"):
        assert lines[name].startswith("nothing to count")
    assert lines["speed"] == "not known"
    assert (
        "was not timed: it failed" in dict(scoreboard(SCORES, Speed(3.0, None, why_not="it failed")))["speed"]
    )


def test_a_plain_loop_that_fails_is_no_error(tmp_path: Path) -> None:
    said = demo_command._time_plain_loop(tmp_path / "no.bag", tmp_path / "no.pt", video=False)
    assert isinstance(said, str)
    assert "ultralytics" in said


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector with the built-in one's classes that has learnt nothing."""
    ultralytics = pytest.importorskip("ultralytics")
    import torch
    import yaml
    from ultralytics.nn.tasks import DetectionModel

    words = yaml.safe_load((Path(ultralytics.__file__).parent / "cfg/models/11/yolo11.yaml").read_text())
    words |= {"scales": {"n": [0.34, 0.125, 256]}, "scale": "n"}
    network = DetectionModel(words, nc=len(model_file.LABELS), verbose=False)
    network.names = dict(enumerate(model_file.LABELS))
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    torch.save({"model": network.half(), "train_args": {}}, path)
    return path


def test_the_whole_chain_with_a_detector_that_knows_nothing(
    tmp_path: Path,
    cache: Path,
    random_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    opened: list[str] = []

    def no_browser(url: str) -> bool:
        opened.append(url)
        return False

    monkeypatch.setattr(demo_drive, "drive_settings", lambda: SHORT)
    monkeypatch.setattr("webbrowser.open", no_browser)
    monkeypatch.chdir(tmp_path)
    words = ["demo", "--model", str(random_weights), "--open", "--no-plain-loop"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "3 of 6 cameras, 0 of them incomplete (18 pictures" in text
    assert "100.0 % of them hold exactly" in text
    assert "perception-batch run drive.bag --out out --model yolo11n.pt" in text
    folder = tmp_path / "demo_out" / "built_in_drive"
    assert {"run.json", "annotated.mp4", "report.html", "objects.parquet"} <= {
        p.name for p in folder.iterdir()
    }
    assert opened == [(folder / "report.html").as_uri()]
    assert "no browser was found" in text


@pytest.mark.skipif(not MODEL_IS_THERE, reason="the built-in detector is not in the package")
@pytest.mark.parametrize("seed", [95001, demo_drive.SEED])
def test_the_built_in_detector_reaches_its_figures(
    seed: int, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is promised, on drives that nothing was trained on (``MODEL_CARD.md`` has more of them)."""
    settings = replace(drive_settings(), seed=seed)
    monkeypatch.setattr(demo_drive, "drive_settings", lambda: settings)
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    run, report = demo_command._run_and_score(tmp_path, packaged_model(), video=False)
    found = demo_command._scores(run, report)
    assert found.pictures <= 600
    assert found.sync_exact == 1
    assert found.ap50 is not None
    assert found.ap50 >= 0.85
    assert found.merge_f1 is not None
    assert found.merge_f1 >= 0.95
    assert found.range_error is not None
    assert found.range_error <= 0.08
    assert found.idf1 is not None
    assert found.idf1 >= 0.85


def test_scripts_demo_takes_a_log_or_nothing() -> None:
    text = (Path(__file__).parent.parent / "scripts" / "demo").read_text()
    assert "perception-batch demo" in text
    assert "perception-batch run" in text
    assert os.access(Path(__file__).parent.parent / "scripts" / "demo", os.X_OK)


def test_without_an_encoder_one_line_says_so(
    tmp_path: Path,
    cache: Path,
    random_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(demo_drive, "drive_settings", lambda: FRONT)
    monkeypatch.setattr("perception_batch.write.encoder.choose_codec", lambda *_: None)
    words = ["demo", "--out", str(tmp_path / "out"), "--model", str(random_weights), "--no-plain-loop"]
    assert main(words) != 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "there is no video" in said
    assert main([*words, "--no-video"]) == 0
    assert "annotated.mp4" not in capsys.readouterr().out
