"""A store that fails, or that somebody has damaged, ends a drive with a reason and loses nothing."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from url_runs import (
    Counting,
    bytes_at,
    request,
    run_json,
)
from url_stores import WRITES, ShakyStore, always, at_random

from perception_batch.collection import run_all
from perception_batch.runs import Backoff, DriveAtUrl, OutputUrl


def test_a_store_that_fails_at_random(short: Path, tmp_path: Path, expected_short: dict[str, bytes]) -> None:
    ShakyStore.fault = at_random(seed=3, share=0.25)
    for _ in range(10):
        status = run_all(request(short, "shaky://night", tmp_path / "s", "runs.retries=2"))
        if status == 0:
            break
        assert status in (1, 2, 3, 75)
    assert status == 0
    ShakyStore.fault = lambda _op, _path: None
    for drive in "ab":
        found = bytes_at("shaky://night", drive)
        assert found == {n[2:]: data for n, data in expected_short.items() if n.startswith(f"{drive}/")}


FAULTS: dict[str, tuple[Callable[[], Any], str, int]] = {
    "away": (lambda: always(TimeoutError("no answer"), *WRITES, inside="/a/"), "no answer", 3),
    "full": (lambda: always(OSError(errno.ENOSPC, "no space"), "put_file", inside="/a/"), "it is full", 3),
    "refuses": (lambda: always(PermissionError("403"), *WRITES, inside="/a/"), "it refuses", 3),
    "gone": (lambda: always(FileNotFoundError("x"), *WRITES, inside="/a/", after=3), "no such bucket", 3),
    "full for all": (lambda: always(OSError(errno.EDQUOT, "quota"), "put_file", inside="tracks"), "full", 75),
    "cannot remove": (lambda: always(PermissionError("403"), "rm_file", inside="/a/"), "cannot remove", 3),
    "cannot look": (lambda: always(TimeoutError("no answer"), "find", inside="/a"), "cannot list", 3),
    "no lease": (lambda: always(PermissionError("403"), "pipe_file", inside="leases/a"), "it refuses", 3),
}


@pytest.mark.parametrize(("fault", "said", "status"), FAULTS.values(), ids=FAULTS.keys())
def test_a_store_that_fails_ends_the_drive_and_no_other(
    short: Path,
    tmp_path: Path,
    expected_short: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
    fault: Callable[[], Any],
    said: str,
    status: int,
) -> None:
    ShakyStore.fault = fault()
    both = request(short, "shaky://night", tmp_path / "s", "runs.retries=1")
    assert run_all(both) == status
    lines = [line for line in capsys.readouterr().err.splitlines() if ": error: " in line]
    assert len(lines) == (1 if status == 3 else 2)
    assert all(said in line for line in lines)
    assert run_json("shaky://night", "a").get("status") != "complete" or said == "cannot remove"
    ShakyStore.fault = lambda _op, _path: None
    assert run_all(both) == 0
    found = {f"{d}/{n}": data for d in "ab" for n, data in bytes_at("shaky://night", d).items()}
    assert found == expected_short


def test_a_store_that_is_away_at_the_end_costs_no_detection(short: Path, tmp_path: Path) -> None:
    ShakyStore.fault = always(TimeoutError("no answer"), "put_file", inside=".parquet")
    mine = request(short / "a", "shaky://night", tmp_path / "s", "runs.retries=1")
    assert run_all(mine) == 75
    images = Counting.images
    ShakyStore.fault = lambda _op, _path: None
    assert run_all(mine) == 0
    assert Counting.images == images
    assert run_json("shaky://night", "a")["status"] == "complete"


def test_segments_that_do_not_get_through_are_put_with_the_next(
    log: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    failed: list[str] = []

    def fault(op: str, path: str) -> None:
        if op == "put_file" and "detect_00001" in path and not failed:
            failed.append(path)
            raise TimeoutError

    ShakyStore.fault = fault
    assert run_all(request(log, "shaky://night", tmp_path / "s")) == 0
    puts = [path for op, path in ShakyStore.calls if op == "put_file" and "detect_00001" in path]
    assert len(puts) == 2
    assert bytes_at("shaky://night", log.stem) == expected


def test_what_is_damaged_there_is_noticed(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = request(short / "a", "shaky://night", tmp_path / "s")
    assert run_all(mine) == 0
    whole = bytes_at("shaky://night", "a")
    store = ShakyStore()
    store.pipe_file("/night/a/objects.parquet", whole["objects.parquet"][:-10])
    assert run_all(mine) == 0  # another size: seen in the listing
    assert bytes_at("shaky://night", "a") == whole
    other = bytearray(whole["detections.parquet"])
    other[100] ^= 1
    store.pipe_file("/night/a/detections.parquet", bytes(other))
    capsys.readouterr()
    again = request(short / "a", "shaky://night", tmp_path / "s", "detect.score=0.8", "runs.retries=0")
    assert run_all(again) == 75  # the same size, other bytes: seen when it is fetched
    assert "is not what was put there" in capsys.readouterr().err
    store.pipe_file("/night/a/run.json", b"{")
    assert run_all(mine) == 2
    assert "is damaged" in capsys.readouterr().err
    assert run_all(request(short / "a", "shaky://night", tmp_path / "s", overwrite=True)) == 0
    assert bytes_at("shaky://night", "a") == whole


def test_a_strange_run_json_reaches_no_file_outside(short: Path, tmp_path: Path) -> None:
    url = (tmp_path / "remote").as_uri()
    assert run_all(request(short / "a", url, tmp_path / "s")) == 0
    run = run_json(url, "a")
    facts = {"size": 4, "md5": "0" * 32}
    evil = dict.fromkeys(
        ("../b/x", "/etc/passwd", ".segments/../../x", "a\\..\\b", "run.json", "ok\x00", ""), facts
    )
    (tmp_path / "remote" / "a" / "run.json").write_text(json.dumps(run | {"files": run["files"] | evil}))
    (tmp_path / "remote" / "b").mkdir()
    (tmp_path / "remote" / "b" / "x").write_text("mine")
    assert run_all(request(short / "a", url, tmp_path / "t", overwrite=True)) == 0
    assert (tmp_path / "remote" / "b" / "x").read_text() == "mine"


def test_a_put_is_compared_with_what_has_arrived(tmp_path: Path) -> None:
    place = OutputUrl.parse("shaky://x")
    assert place is not None
    waits: list[int] = []
    files = place.files(Backoff(3, 0.0), lambda _error, failures, _wait_s: waits.append(failures))
    (tmp_path / "f").write_bytes(b"0123456789")
    halves = iter([EOFError(), EOFError("loud"), TimeoutError()])

    def fault(op: str, _path: str) -> None:
        if op == "put_file" and (error := next(halves, None)) is not None:
            raise error

    ShakyStore.fault = fault
    checked = files.put(tmp_path / "f", "d/f")
    assert waits == [1, 2, 3]
    assert files.read("d/f") == b"0123456789"
    files.get("d/f", tmp_path / "g", checked)
    assert (tmp_path / "g").read_bytes() == b"0123456789"
    remote = DriveAtUrl(files, "d", tmp_path / "d")
    with pytest.raises(Exception, match="is no run of this program"):
        remote.pull()
