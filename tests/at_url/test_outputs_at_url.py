"""`run --out URL`: the drives' files are those of a run in a folder, and the commands say what they can do there."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from url_runs import (
    TABLES,
    Counting,
    bytes_at,
    in_a_folder,
    names_at,
    request,
    run_json,
)
from url_stores import SETTINGS, ShakyStore, always

from perception_batch import pipeline
from perception_batch.cli import main
from perception_batch.collection import run_all
from perception_batch.errors import ConfigError
from perception_batch.runs import OutputUrl


def test_a_run_at_a_url(
    log: Path, url: str, tmp_path: Path, expected: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    mine = request(log, url, tmp_path / "one")
    assert run_all(mine) == 0
    assert bytes_at(url, log.stem) == expected
    assert f"{url}/{log.stem}: detections.parquet" in capsys.readouterr().out
    run = run_json(url, log.stem)
    assert run["status"] == "complete"
    assert {f"{name}.parquet" for name in TABLES} <= run["files"].keys()
    assert all(run["files"][name]["size"] == len(data) for name, data in expected.items())
    leftover = [n for n in names_at(url) if ".segments" in n or ".perception_batch" in n or "partial" in n]
    assert not leftover
    assert [p.name for p in (mine.out / log.stem).iterdir()] == ["run.json"]

    Counting.images = 0  # from elsewhere, with nothing here: told from the URL alone
    assert run_all(request(log, url, tmp_path / "two")) == 0
    assert "already there" in capsys.readouterr().out
    assert main(["status", url, "--scratch", str(tmp_path / "three")]) == 0
    assert "1 drives: 1 done" in capsys.readouterr().out

    # Another setting of fusion: what is stored is fetched, fused, and put again.
    assert run_all(request(log, url, tmp_path / "two", "detect.score=0.85")) == 0
    assert Counting.images == 0
    assert bytes_at(url, log.stem) == in_a_folder(log, tmp_path / "folder", "detect.score=0.85")
    assert run_json(url, log.stem)["status"] == "complete"


def test_video_and_folders_go_along(short: Path, tmp_path: Path) -> None:
    url, log = (tmp_path / "remote").as_uri(), short / "a"
    assert run_all(request(log, url, tmp_path / "s", "render.video=true", "render.width_px=320")) == 0
    assert (tmp_path / "remote" / "a" / "annotated.mp4").stat().st_size > 1000
    assert run_all(request(log, url, tmp_path / "s")) == 0
    assert not (tmp_path / "remote" / "a" / "annotated.mp4").exists()
    (tmp_path / "remote" / "a" / "notes.txt").write_text("mine")
    assert run_all(request(log, url, tmp_path / "s", "detect.image_size=64", overwrite=True)) == 0
    assert (tmp_path / "remote" / "a" / "notes.txt").read_text() == "mine"


def test_a_folder_that_is_no_run_is_left_alone(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "remote" / "a").mkdir(parents=True)
    (tmp_path / "remote" / "a" / "thesis.txt").write_text("mine")
    url = (tmp_path / "remote").as_uri()
    assert run_all(request(short / "a", url, tmp_path / "s", overwrite=True)) == 2
    assert "is no run of this program" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "remote" / "a").iterdir()] == ["thesis.txt"]


def test_status_tells_how_far_drives_are(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "open_detector", lambda settings: Counting(settings, fail_at=32))
    assert run_all(request(log, "shaky://night", tmp_path / "one", "runs.retries=0")) != 0
    capsys.readouterr()
    assert main(["status", "shaky://night", "--scratch", str(tmp_path / "two"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["out"] == "shaky://night"
    drive = found["drives"][0]
    assert (drive["state"], drive["segments"]) == ("failed", 6)
    assert drive["segments_done"] in (2, 3)
    assert main(["status", "shaky://nothing", "--scratch", str(tmp_path / "two")]) == 1


def test_dry_run_puts_nothing(short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_all(request(short, "shaky://night", tmp_path / "s", dry_run=True)) == 0
    assert "to shaky://night/a" in capsys.readouterr().out
    assert not ShakyStore.store


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://host/night", "nothing can be written to https"),
        ("nosuch://host/night", "cannot be opened"),
        ("abfs://night/x", "pip install adlfs"),
    ],
)
def test_urls_that_cannot_be_used(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        place = OutputUrl.parse(text)
        assert place is not None
        place.files()


def test_commands_that_work_in_folders_say_how_to_copy(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["report"], ["fuse"], ["render"], ["evaluate"]):
        more = ["--truth", "x"] if words == ["evaluate"] else []
        assert main([*words, "s3://bucket/night/a", *more]) == 2
        err = capsys.readouterr().err
        assert "s3://bucket/night/a" in err
        assert "recursive=True" in err
        assert len(err.splitlines()) == 1


def test_no_password_is_kept_or_shown(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = OutputUrl.parse("shaky://me:secret@host/night", tmp_path / "s")
    assert place is not None
    assert "secret" not in f"{place} {place!r} {place.below('a')} {place.folder(tmp_path)}"
    assert pickle.loads(pickle.dumps(place)) == place  # noqa: S301
    words = ["run", str(short / "a"), "--out", place.url, "--scratch", str(tmp_path / "s")]
    assert main([*words, *_sets()]) == 0
    ShakyStore.fault = always(TimeoutError("shaky://me:secret@host is away"), "find")
    assert main([*words, *_sets("runs.retries=1")]) == 75
    seen = capsys.readouterr()
    texts = [seen.out, seen.err, *(p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.is_file())]
    texts += [data.getvalue().decode(errors="replace") for data in ShakyStore.store.values()]
    assert any("me@host" in text for text in texts)
    assert not any("secret" in text for text in texts)


def _sets(*more: str) -> list[str]:
    return [word for setting in (*SETTINGS, *more) for word in ("--set", setting)]
