"""The ledger is an index: whatever happens to it, the drives' files tell."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from runs.collections_made import CONFIG, finished

from perception_batch.runs import ledger as ledger_module
from perception_batch.runs.ledger import Entry, Ledger
from perception_batch.runs.run_record import SCHEMA, parse_record, read_record
from perception_batch.runs.stage_hashes import stage_hashes
from perception_batch.write.schemas import SCHEMA_VERSION


def names(ledger: Ledger) -> dict[str, str]:
    return {e.drive: "" if e.record is None else e.record.status for e in ledger.entries()}


def test_the_schema_is_that_of_the_manifest() -> None:
    assert SCHEMA == SCHEMA_VERSION


def test_it_holds_what_the_files_say_and_follows_them(tmp_path: Path) -> None:
    finished(tmp_path, "a")
    finished(tmp_path, "b", "partial")
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").touch()
    with Ledger(tmp_path) as ledger:
        assert names(ledger) == {"a": "complete", "b": "partial"}
        record = ledger.get("a").record
        assert record is not None
        assert (record.log, record.frames, record.wall_s, record.weights_sha256) == ("log of a", 60, 2.0, "w")
        assert record.hashes == stage_hashes(CONFIG, {})
        assert (ledger.get("a").content, ledger.get("a").size_bytes) == ("content of a", 1000)
        assert ledger.get("none") == Entry("none")
        ledger.put(Entry("c", ("/logs/c.bag",)), replace(ledger.get("b"), message="lost"))
        assert not ledger.notes
    finished(tmp_path, "a", "failed")
    shutil.rmtree(tmp_path / "b")
    with Ledger(tmp_path) as ledger:
        assert names(ledger) == {"a": "failed", "c": ""}
        finished(tmp_path, "c")
        ledger.refresh("c")
        assert names(ledger) == {"a": "failed", "c": "complete"}
        assert ledger.get("c").paths == ("/logs/c.bag",)


def test_what_a_run_found_out_of_a_log_outlives_a_new_fusion_but_not_another_log(tmp_path: Path) -> None:
    finished(tmp_path, "a", content="")
    with Ledger(tmp_path) as ledger:
        ledger.put(replace(ledger.get("a"), content="found"))
        finished(tmp_path, "a", content="", note=1)
        ledger.refresh("a")
        assert ledger.get("a").content == "found"
        finished(tmp_path, "a", content="", fingerprint="other")
        ledger.refresh("a")
        assert ledger.get("a").content == ""


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(5000))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def zeros(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:4096] + bytes(len(data) - 4096))


def newer(path: Path) -> None:
    with sqlite3.connect(path) as base:
        base.execute("PRAGMA user_version = 99")
    base.close()


def no_table(path: Path) -> None:
    with sqlite3.connect(path) as base:
        base.execute("DROP TABLE drive")
        base.execute("CREATE TABLE drive (name TEXT, entry TEXT)")
        base.execute("INSERT INTO drive VALUES ('x', '[]')")
    base.close()


def swapped(path: Path) -> None:
    with sqlite3.connect(path) as base:
        base.execute("UPDATE drive SET name = name || 'x'")
    base.close()


@pytest.mark.parametrize("harm", [garbage, cut, zeros, newer, no_table, swapped])
def test_a_damaged_ledger_is_put_aside_and_made_anew(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    for i in range(40):
        finished(tmp_path, f"drive{i}")
    with Ledger(tmp_path) as ledger:
        path = ledger.path
        before = ledger.entries()
    harm(path)
    with Ledger(tmp_path, keep=False) as looked:
        assert looked.entries() == before
        assert len(looked.notes) == 1
    with Ledger(tmp_path) as ledger:
        assert ledger.entries() == before
        assert "made anew from the drives' files" in ledger.notes[0]
        assert path.with_name("ledger.sqlite3.damaged").exists()
    with Ledger(tmp_path) as ledger:
        assert ledger.entries() == before
        assert not ledger.notes


def test_looking_writes_nothing(tmp_path: Path) -> None:
    finished(tmp_path, "a")
    with Ledger(tmp_path, keep=False) as ledger:
        assert names(ledger) == {"a": "complete"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


def test_a_place_that_refuses_is_done_without(tmp_path: Path) -> None:
    finished(tmp_path, "a")
    (tmp_path / ".perception_batch").touch()  # where its folder should be
    with Ledger(tmp_path) as ledger:
        assert names(ledger) == {"a": "complete"}
        assert "without it" in ledger.notes[0]
        ledger.put(Entry("b", ("/b",)))
        assert names(ledger) == {"a": "complete", "b": ""}


def test_a_ledger_that_another_process_keeps_locked_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_BUSY_S", 0.05)
    with Ledger(tmp_path) as ledger:
        other = sqlite3.connect(ledger.path)
        other.execute("BEGIN EXCLUSIVE")
        ledger.put(Entry("b", ("/b",)))
        assert names(ledger) == {"b": ""}
        assert "locked" in ledger.notes[0]
        with Ledger(tmp_path) as second:
            assert "locked" in second.notes[0]
        other.close()


def test_names_and_files_that_make_no_sense(tmp_path: Path) -> None:
    weird = os.fsdecode(b"bad\xff\x1b name")
    finished(tmp_path, weird)
    for name, text in {
        "empty": "",
        "list": "[]",
        "deep": "[" * 100_000,
        "no schema": "{}",
        "newer": '{"schema": 99}',
        "status": '{"schema": 1, "status": "odd"}',
        "numbers": json.dumps(
            {
                "schema": 1,
                "status": "complete",
                "timing": {"wall_s": 1e400},
                "counts": {"frames_in_log": "x"},
                "losses": 3,
            }
        ),
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    (tmp_path / "folder" / "run.json").mkdir(parents=True)
    with Ledger(tmp_path) as ledger:
        before = names(ledger)
    assert before == {
        weird: "complete",
        **dict.fromkeys(("empty", "list", "deep", "no schema", "status"), "damaged"),
        "newer": "newer",
        "numbers": "complete",
    }
    with Ledger(tmp_path) as ledger:
        assert names(ledger) == before
        assert not ledger.notes
    assert read_record(tmp_path / "folder") is None
    assert parse_record("a", b"\xff").status == "damaged"


WRITER = """
import sys
from pathlib import Path
from perception_batch.runs.ledger import Entry, Ledger
with Ledger(Path(sys.argv[1])) as ledger:
    print("ready", flush=True)
    for i in range(1_000_000):
        ledger.put(Entry(f"d{i % 50}", (str(i),)))
"""


def test_killed_at_any_moment_it_opens_again(tmp_path: Path) -> None:
    finished(tmp_path, "a")
    for round_ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(0.03 * (round_ + 1))
            process.send_signal(signal.SIGKILL)
        with Ledger(tmp_path) as ledger:
            assert not ledger.notes
            assert ledger.get("a").record is not None
