"""What a person reads at the end of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perception_batch.console import RunProgress, print_outcome
from perception_batch.job import Outcome
from perception_batch.write import Manifest

COUNTS = {
    "frames_in_log": 120,
    "frames_used": 110,
    "frames_unused": 7,
    "frames_undecodable": 3,
    "timesteps": 20,
    "timesteps_incomplete": 4,
    "detections": 500,
    "objects": 80,
    "tracks": 0,
}


def outcome(folder: Path, **changes: Any) -> Outcome:
    manifest = Manifest(
        "trip",
        "complete",
        counts=COUNTS,
        device="cpu",
        model={"backend": "torch", "precision": "fp32"},
        batch_size=8,
        sync={
            "reference": "cam_front",
            "spread_ns": {"p50": 41_700_000, "p95": 42_000_000, "max": 43_210_000},
        },
        timing={
            "wall_s": 10.0,
            "images_per_s": 11.04,
            "stages": {},
            "waits": {
                "read": {"put_s": 7.1, "get_s": 0.4, "peak_bytes": 1},
                "decode": {"put_s": 0.0, "get_s": 0.0, "peak_bytes": 1},
            },
        },
        losses=[{"topic": "/cam_a", "start_ns": 1, "stop_ns": 2, "count": 3, "reason": "broken_jpeg"}],
    )
    manifest = replace(manifest, **{k: v for k, v in changes.items() if hasattr(manifest, k)})
    rest = {k: v for k, v in changes.items() if not hasattr(manifest, k)}
    return replace(Outcome("trip", folder, 0, "ran", manifest), **rest)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    folder = tmp_path / "trip"
    folder.mkdir()
    (folder / "run.json").touch()

    def show(**changes: Any) -> str:
        print_outcome(outcome(folder, **changes))
        return capsys.readouterr().out

    return show


def test_the_summary_accounts_for_every_frame(printed: Any) -> None:
    lines = printed().splitlines()
    assert lines[0] == "trip: complete, done"
    assert "120 in the log = 110 used + 7 unused + 3 undecodable" in lines[1]
    assert "20, 4 incomplete" in lines[2]
    assert "500 boxes kept, 80 objects" in lines[3]
    assert "median 41.7 ms, 95 % 42.0 ms, largest 43.2 ms; reference cam_front" in lines[4]
    assert "11.0 images/s over 10.0 s, cpu, torch fp32, batch 8" in lines[5]
    assert "decode 4 % for read, read 71 % for decode" in lines[6]
    assert "run.json" in lines[7]
    assert "lost: /cam_a: 3 (broken_jpeg)" in lines[8]
    assert len(lines) == 9


def test_a_long_line_is_not_broken(printed: Any, tmp_path: Path) -> None:
    """Pipes and logs want a line a fact, however narrow the terminal is said to be."""
    assert f"{tmp_path / 'trip'}: run.json\n" in printed()


def test_what_was_redone_and_what_was_there(printed: Any) -> None:
    again = printed(action="redid")
    assert "trip: complete, done again from stored detections" in again
    assert "images/s" not in again  # the speed of another run
    assert "waiting" not in again
    there = printed(action="skipped")
    assert there.startswith("trip: already there, nothing to do (")
    assert len(there.splitlines()) == 1


def test_one_camera_has_no_spread_and_an_empty_run_no_speed(printed: Any) -> None:
    out = printed(
        sync={"reference": "a", "spread_ns": {"p50": None, "p95": None, "max": None}},
        timing={"wall_s": 1.0, "images_per_s": None},
    )
    assert "sync spread" not in out
    assert "speed" not in out


def test_a_video_is_named(printed: Any, tmp_path: Path) -> None:
    (tmp_path / "trip" / "annotated.mp4").touch()
    assert f"video        {tmp_path / 'trip' / 'annotated.mp4'}\n" in printed()


@pytest.mark.parametrize("evil", ["a\x1b[2Jb", "a\nb", "\u202egnp", "[red]a[/red]", "[/]", ":car:a:warning:"])
def test_names_from_a_log_are_shown_and_not_obeyed(printed: Any, evil: str) -> None:
    shown = evil.encode("unicode_escape").decode() if not evil.isprintable() else evil
    out = printed(
        losses=[{"topic": evil, "start_ns": 0, "stop_ns": 0, "count": 1, "reason": evil}],
        notes=(f"{evil} lost 5 % of its frames",),
        sync={"reference": evil, "spread_ns": {"p50": 1, "p95": 1, "max": 1}},
    )
    assert all(line.isprintable() for line in out.splitlines())
    assert f"lost: {shown}: 1 ({shown})" in out
    assert f"note: {shown} lost 5 %" in out
    assert f"reference {shown}" in out
    assert len(out.splitlines()) == 10


def test_progress_is_silent_where_stderr_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    bar = RunProgress()
    bar.start("trip", 100)
    bar.advance(5)
    bar.stop()
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    for total in (100, 0):  # 0: nobody knows
        bar = RunProgress()
        bar.start("trip", total)
        bar.advance(5)
        bar.stop()
        bar.stop()
    out, err = capsys.readouterr()
    assert out == ""
    assert "trip" in err
