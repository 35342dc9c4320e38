"""The log of events: whole lines, whoever writes, and never a reason to stop."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

from perception_batch.runs import events as events_module
from perception_batch.runs.events import EventLog, read_events


def test_a_line_an_event(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "events.jsonl"
    log = EventLog(path, lambda: datetime(2026, 11, 22, 1, 30, tzinfo=timezone.utc))
    log.write("drive_started", drive="a\n\x1b", path=Path("/x"))
    log.write("drive_failed", drive="a", message="x" * 100_000)
    lines = path.read_text().splitlines()
    assert len(lines) == 2
    first = json.loads(lines[0])
    assert first.pop("pid")
    assert first == {
        "time_utc": "2026-11-22T01:30:00.000+00:00",
        "event": "drive_started",
        "drive": "a\n\x1b",
        "path": "/x",
    }
    assert json.loads(lines[1])["cut"] > 100_000


def test_a_line_that_a_kill_has_cut_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "e"
    log = EventLog(path)
    log.write("run_started")
    with path.open("ab") as stream:
        stream.write(b'{"event": "dri\n[1]\n\xff\n')
    log.write("run_finished", exit_status=0)
    assert [e["event"] for e in read_events(path)] == ["run_started", "run_finished"]


WRITER = """
import sys
from pathlib import Path
from perception_batch.runs.events import EventLog
log = EventLog(Path(sys.argv[1]))
for i in range(500):
    log.write("segment_landed", drive=sys.argv[2] * 300, segment=i)
"""


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "e"
    at_work = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "abc"]
    assert [process.wait() for process in at_work] == [0, 0, 0]
    found = list(read_events(path))
    assert len(found) == 1500
    for name in "abc":
        assert [e["segment"] for e in found if e["drive"] == name * 300] == list(range(500))


def test_it_does_not_grow_for_ever_and_a_place_that_refuses_costs_lines_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events_module, "MAX_BYTES", 1000)
    log = EventLog(tmp_path / "e")
    for i in range(50):
        log.write("note", number=i)
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 2500
    (tmp_path / "file").touch()
    refused = EventLog(tmp_path / "file" / "e")
    refused.write("note")
    refused.write("note")
    assert len(caplog.records) == 1
