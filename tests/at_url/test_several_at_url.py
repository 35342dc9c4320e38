"""Several processes and machines over one URL: they exclude each other, go on where one died, and work together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from url_runs import (
    IMAGES,
    Counting,
    bytes_at,
    names_at,
    request,
)
from url_stores import SETTINGS, ShakyStore

from perception_batch import pipeline
from perception_batch.cli import main
from perception_batch.collection import run_all
from perception_batch.config import load_config
from perception_batch.devices import KeptDetector
from perception_batch.errors import LockedError
from perception_batch.job import Job
from perception_batch.runs import Backoff, OutputUrl, UrlLease
from perception_batch.segment_work import detect_segment, prepare_drive

KILLS = {"file": 3, "s3": 2}
PROGRAMS = Path(__file__).parent.parent
"""Where the programs lie that are killed."""


@pytest.mark.parametrize("harm", ["none", "cut", "byte", "plan", "foreign"])
def test_a_second_machine_goes_on(
    log: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    """The first fails in the middle; the second has an empty folder, and detects only what has not landed whole."""
    monkeypatch.setattr(pipeline, "open_detector", lambda settings: Counting(settings, fail_at=32))
    first = request(log, "shaky://night", tmp_path / "one", "runs.retries=0")
    assert run_all(first) != 0
    landed = {n: data for n, data in ShakyStore.store.items() if n.endswith(".zip")}
    assert len(landed) >= 2
    if harm in ("cut", "byte"):
        name = sorted(landed)[0]
        data = bytearray(ShakyStore.store[name].getvalue())
        data[len(data) // 2] ^= 255
        ShakyStore(skip_instance_cache=True).pipe_file(
            name, bytes(data if harm == "byte" else data[: len(data) // 2])
        )
    elif harm == "plan":
        ShakyStore().pipe_file(f"/night/{log.stem}/.segments/plan.json", b"{")
    elif harm == "foreign":
        one, two, *_ = sorted(landed)
        ShakyStore().pipe_file(one, ShakyStore.store[two].getvalue())
    monkeypatch.setattr(pipeline, "open_detector", Counting)
    Counting.images = 0
    assert run_all(request(log, "shaky://night", tmp_path / "two")) == 0
    usable = len(landed) - (0 if harm == "none" else 1)
    if harm == "plan":  # planned anew, in the same way: the segments are taken
        usable = len(landed)
    assert IMAGES - 10 * usable <= Counting.images <= IMAGES - 7 * usable
    assert bytes_at("shaky://night", log.stem) == expected


def test_two_runs_exclude_each_other(
    short: Path, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = OutputUrl.parse(url)
    assert place is not None
    files = place.files(Backoff(0))
    with UrlLease.take(files, "a") as lease:
        with pytest.raises(LockedError, match="works on it"):
            UrlLease.take(files, "a")
        assert run_all(request(short / "a", url, tmp_path / "s")) == 75
        assert f"process {os.getpid()}" in capsys.readouterr().err
        assert main(["status", url, "--scratch", str(tmp_path / "t")]) == 0
        # Of another machine, which is heard of no more: by the store's clock.
        found = json.loads(files.read(".perception_batch/leases/a.json") or b"")
        elsewhere = json.dumps(found | {"place": "elsewhere", "token": "other", "allowed_s": 1e-6}).encode()
        files.write(".perception_batch/leases/a.json", elsewhere)
        if not url.startswith("s3"):  # whose clock ticks in seconds
            assert run_all(request(short / "a", url, tmp_path / "s")) == 0
            assert ".perception_batch/leases/a.json" not in names_at(url)
            files.write(".perception_batch/leases/a.json", elsewhere)
        with pytest.raises(LockedError, match="taken it over"):
            lease.renew(now=True)
    assert ".perception_batch/leases/a.json" in names_at(url)  # the other's


def test_the_lease_of_a_dead_process_counts_for_nothing(tmp_path: Path) -> None:
    place = OutputUrl.parse(tmp_path.as_uri())
    assert place is not None
    files = place.files()
    code = (
        "import os, sys; from perception_batch.runs import OutputUrl, UrlLease\n"
        f"UrlLease.take(OutputUrl.parse({tmp_path.as_uri()!r}).files(), 'a'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert ".perception_batch/leases/a.json" in files.list()
    with UrlLease.take(files, "a") as lease:
        lease.renew(now=True)
    assert files.list() == {}


@pytest.mark.parametrize("scheme", ["file", "s3"])
def test_killed_again_and_again_with_nothing_kept(
    log: Path, tmp_path: Path, expected: dict[str, bytes], scheme: str, request: pytest.FixtureRequest
) -> None:
    """kill -9 at random moments, each time going on with an empty folder: see `killed_at_url`."""
    url = (tmp_path / "remote").as_uri()
    if scheme == "s3":
        request.getfixturevalue("s3")
        url = f"s3://bucket/{tmp_path.name}"
    start = "import sys; sys.path.insert(0, '.'); import runpy; runpy.run_path('killed_at_url.py', run_name='__main__')"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            start,
            str(log),
            str(tmp_path / "work"),
            url,
            str(IMAGES),
            str(KILLS[scheme]),
            "4",
        ],
        capture_output=True,
        text=True,
        cwd=PROGRAMS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["faults"] == []
    assert seen["killed"] >= 2
    assert max(seen["landed"]) >= 1
    assert bytes_at(url, log.stem) == expected
    assert not [name for name in names_at(url) if ".segments" in name or "partial" in name]


def test_segments_made_on_other_machines(log: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    """As `--engine ray` does it, each step in a folder of its own: nothing is shared but the URL."""
    place = OutputUrl.parse("shaky://night")
    assert place is not None
    config = load_config(None, SETTINGS)

    def job(folder: str) -> Job:
        return Job(log.stem, (log,), tmp_path / folder, config, url=place)

    with KeptDetector(config.detect, Counting) as kept:
        prepared = prepare_drive(job("driver"), kept)
        for segment in prepared.missing[1:]:
            there = replace(prepared, job=job(f"machine_{segment % 2}"))
            landed = detect_segment(there, segment, kept)
            assert landed.path.startswith("shaky://night/")
        assert not list(tmp_path.glob("machine_*/*/.segments/*.zip"))
        assert prepare_drive(job("another"), kept).missing == prepared.missing[:1]
        detect_segment(prepared, prepared.missing[0], kept)
        Counting.images = 0
        done = pipeline.run_drive(job("last"), kept=kept)
    assert Counting.images == 0
    assert done.place == f"shaky://night/{log.stem}"
    assert bytes_at("shaky://night", log.stem) == expected


def test_ray_needs_no_shared_folder(short: Path, tmp_path: Path, expected_short: dict[str, bytes]) -> None:
    pytest.importorskip("ray")
    url, caches = (tmp_path / "remote").as_uri(), tmp_path / "caches"
    program = PROGRAMS / "ray_at_url.py"
    home = str(Path(main.__code__.co_filename).parent.parent)
    done = subprocess.run(
        [sys.executable, str(program), str(short), url, str(caches), *SETTINGS],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([home, str(program.parent)])},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "ledger: ['complete', 'complete']" in done.stdout
    found = {f"{d}/{n}": data for d in "ab" for n, data in bytes_at(url, d).items()}
    assert found == expected_short
    assert (
        len([p for p in caches.iterdir() if (p / "perception_batch").exists()]) >= 3
    )  # the driver's, and two actors'
    assert not list(caches.rglob("*.zip"))
    assert not list(caches.rglob("*.parquet"))
