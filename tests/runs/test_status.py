"""What `status` says of a collection."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from runs.collections_made import finished
from runs.segment_samples import PLAN, content

from perception_batch.cli import main
from perception_batch.runs.ledger import Entry, Ledger
from perception_batch.runs.lock import locked
from perception_batch.runs.prometheus import Gauge, collection_gauges, exposition, write_exposition
from perception_batch.runs.segment_store import Made, SegmentStore
from perception_batch.runs.status import collection_status, lock_path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """One drive in every state."""
    finished(tmp_path, "done")
    finished(tmp_path, "partial", "partial")
    finished(tmp_path, "failed", "failed")
    for name in ("stopped", "running"):
        folder = finished(tmp_path, name, "unfinished")
        store = SegmentStore(folder, PLAN, Made("w", "torch", "fp32"))
        store.begin()
        for segment in (0, 1, 3):
            store.write(segment, content(2))
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / "run.json").write_text('{"schema": 99}')
    with Ledger(tmp_path) as ledger:
        ledger.put(
            Entry("missing", ("/logs/missing.bag",)),
            Entry("no_log", ("/logs/x.bag",), message="x.bag: the file is empty"),
            replace(ledger.get("failed"), message="a disk\x1b[2J"),
        )
    return tmp_path


def test_every_state_is_told(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(lock_path(out, "running"), "running"):
        assert main(["status", str(out), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert main(["status", str(out)]) == 0
        text = capsys.readouterr().out
    drives = {d["drive"]: d for d in told["drives"]}
    assert {name: d["state"] for name, d in drives.items()} == {
        "done": "done",
        "partial": "partial",
        "failed": "failed",
        "stopped": "stopped",
        "running": "running",
        "newer": "unreadable",
        "missing": "missing",
        "no_log": "failed",
    }
    assert told["counts"] == {
        "done": 1, "partial": 1, "running": 1, "stopped": 1, "failed": 2, "missing": 1, "unreadable": 1,
    }  # fmt: skip
    assert (drives["stopped"]["segments_done"], drives["stopped"]["segments"]) == (3, 5)
    assert (drives["done"]["frames"], drives["done"]["wall_s"], drives["partial"]["losses"]) == (60, 2.0, 1)
    assert "stopped: stopped, 3 of 5 segments detected" in text
    assert "no_log: failed, x.bag: the file is empty" in text
    assert "a disk\\x1b[2J" in text
    assert "8 drives: 1 done, 1 partial, 1 running, 1 stopped, 2 failed, 1 missing, 1 unreadable" in text
    assert "120 frames in 4 s of work, 30.0 frames/s" in text
    assert "done:" not in text


def test_an_empty_and_an_absent_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "no drives here yet\n"
    assert list(tmp_path.iterdir()) == []
    assert main(["status", str(tmp_path / "none")]) == 1
    assert "no such folder" in capsys.readouterr().err


def test_a_damaged_ledger_is_said(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / ".perception_batch" / "ledger.sqlite3").write_bytes(b"x" * 9999)
    assert main(["status", str(out)]) == 0
    assert "note: " in capsys.readouterr().out


def test_the_text_file_of_prometheus(out: Path, tmp_path: Path) -> None:
    with Ledger(out, keep=False) as ledger:
        gauges = collection_gauges(collection_status(out, ledger.entries()), 1.5e9, 3)
    path = tmp_path / "node" / "perception_batch.prom"
    write_exposition(path, gauges)
    text = path.read_text()
    assert 'perception_batch_drives{state="failed"} 2\n' in text
    assert "perception_batch_last_run_timestamp_seconds 1500000000\n" in text
    assert "perception_batch_last_run_exit_status 3\n" in text
    assert text.count("# TYPE ") == text.count("# HELP ") == len(gauges)
    assert list(path.parent.iterdir()) == [path]


def test_the_exposition_format() -> None:
    inf = float("inf")
    samples: tuple[tuple[dict[str, str], float], ...] = (
        ({"b": 'x"\\\n', "a": "1"}, inf),
        ({}, -inf),
        ({"a": "2"}, float("nan")),
        ({"a": "3"}, 0.1),
    )
    assert exposition([Gauge("m", "two\nlines \\", samples)]) == (
        "# HELP m two\\nlines \\\\\n# TYPE m gauge\n"
        'm{a="1",b="x\\"\\\\\\n"} +Inf\nm -Inf\nm{a="2"} NaN\nm{a="3"} 0.1\n'
    )
    assert exposition([]) == ""
    for wrong in ("", "1a", "a-b", "ä"):
        with pytest.raises(ValueError, match="no name of a metric"):
            exposition([Gauge(wrong, "", ())])
    for labels in ({"1": "x"}, {"__a": "x"}):
        with pytest.raises(ValueError, match="no name of a label"):
            exposition([Gauge("m", "", ((labels, 1.0),))])
    with pytest.raises(ValueError, match="two samples"):
        exposition([Gauge("m", "", (({}, 1.0), ({}, 2.0)))])
