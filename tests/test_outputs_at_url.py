"""`run --out URL`: the drives' files are those of a run in a folder, whatever the store does and whoever is killed."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from log_writer import CameraSpec, write_log
from patch_detector import PatchDetector, patches
from url_stores import SETTINGS, WRITES, ShakyStore, always, at_random

from perception_batch import drive_output, drives_wanted, pipeline
from perception_batch.cli import main
from perception_batch.collection import RunRequest, run_all
from perception_batch.config import load_config
from perception_batch.devices import KeptDetector
from perception_batch.errors import ConfigError, LockedError
from perception_batch.job import Job
from perception_batch.runs import Backoff, DriveAtUrl, OutputUrl, UrlLease
from perception_batch.segment_work import detect_segment, prepare_drive

KILLS = {"file": 3, "s3": 2}
IMAGES = 26 + 26 - 2 - 1
"""That can be decoded, of the longer log."""
TABLES = ("detections", "objects", "observations", "tracks", "frames", "ego", "timesteps")


class Counting(PatchDetector):
    """Counts the images that were detected."""

    images = 0

    def detect(self, images: Any, views: Any, keep_score: Any) -> Any:
        Counting.images += len(images)
        return super().detect(images, views, keep_score)


@pytest.fixture(autouse=True)
def detector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pipeline, "open_detector", Counting)
    monkeypatch.setattr(drives_wanted, "known_sha256", lambda _: "0" * 64)
    ShakyStore.reset()
    Counting.images = 0
    yield
    ShakyStore.reset()


def cameras() -> list[CameraSpec]:
    common: dict[str, Any] = {"draw": patches, "encoding": "png"}
    return [
        CameraSpec("front", size=(96, 64), **common),
        CameraSpec("left", size=(64, 64), phase_ms=12, yaw_deg=90, drop=(3, 9), broken=(7,), **common),
    ]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("log"), "mcap", cameras(), frames=26, ego_speed_mps=8.0)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two short drives, ``a`` and ``b``."""
    folder = tmp_path_factory.mktemp("short")
    for name in "ab":
        write_log(folder, "mcap", cameras(), frames=9, name=name)
    return folder


def request(log: Path, url: str, scratch: Path, *settings: str, **more: Any) -> RunRequest:
    place = OutputUrl.parse(url, scratch)
    assert place is not None
    config = load_config(None, [*SETTINGS, *settings])
    return RunRequest((log,), drive_output.local_out(place), config, url=place, **more)


def names_at(url: str) -> set[str]:
    place = OutputUrl.parse(url)
    assert place is not None
    return set(place.files().list())


def bytes_at(url: str, drive: str) -> dict[str, bytes]:
    """Tables and lines of a run at a URL."""
    place = OutputUrl.parse(url)
    assert place is not None
    names = [n for n in place.files().list(drive) if n.endswith((".parquet", ".jsonl"))]
    return {n.rpartition("/")[2]: place.files().read(f"{drive}/{n}") or b"" for n in names}


def run_json(url: str, drive: str) -> dict[str, Any]:
    place = OutputUrl.parse(url)
    assert place is not None
    found: dict[str, Any] = json.loads(place.files().read(f"{drive}/run.json") or b"{}")
    return found


def in_a_folder(log: Path, out: Path, *settings: str) -> dict[str, bytes]:
    """The tables of an uninterrupted run in a folder; one drive, or several by drive's name."""
    assert run_all(RunRequest((log,), out, load_config(None, [*SETTINGS, *settings]))) == 0
    files = sorted(
        p for p in out.glob("*/*") if p.suffix in (".parquet", ".jsonl") and p.parent.name[0] != "."
    )
    if len({p.parent for p in files}) == 1:
        return {p.name: p.read_bytes() for p in files}
    return {f"{p.parent.name}/{p.name}": p.read_bytes() for p in files}


def expected_of(log: Path, out: Path) -> dict[str, bytes]:
    """`in_a_folder` before any test has set its detector."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "open_detector", PatchDetector)
        patch.setattr(drives_wanted, "known_sha256", lambda _: "0" * 64)
        return in_a_folder(log, out)


@pytest.fixture(scope="module")
def expected(log: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return expected_of(log, tmp_path_factory.mktemp("expected"))


@pytest.fixture(scope="module")
def expected_short(short: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return expected_of(short, tmp_path_factory.mktemp("expected"))


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """An S3 server of this machine; gives its address."""
    server = pytest.importorskip("moto.server", reason="pip install 'moto[s3]' flask flask-cors s3fs")
    pytest.importorskip("s3fs")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                patch.setenv(name, "testing")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
            patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
            import fsspec  # type: ignore[import-untyped]

            fsspec.filesystem("s3").mkdir("bucket")
            yield f"http://{host}:{port}"
    finally:
        running.stop()


@pytest.fixture(params=["memory", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "s3":
        request.getfixturevalue("s3")
        yield f"s3://bucket/{tmp_path.name}"
    elif request.param == "file":
        yield (tmp_path / "remote").as_uri()
    else:
        import fsspec

        yield f"memory://{tmp_path.name}"
        fsspec.filesystem("memory").store.clear()


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


def test_a_folder_that_is_no_run_is_left_alone(
    short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "remote" / "a").mkdir(parents=True)
    (tmp_path / "remote" / "a" / "thesis.txt").write_text("mine")
    url = (tmp_path / "remote").as_uri()
    assert run_all(request(short / "a", url, tmp_path / "s", overwrite=True)) == 2
    assert "is no run of this program" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "remote" / "a").iterdir()] == ["thesis.txt"]


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
        cwd=Path(__file__).parent,
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


def test_ray_needs_no_shared_folder(short: Path, tmp_path: Path, expected_short: dict[str, bytes]) -> None:
    pytest.importorskip("ray")
    url, caches = (tmp_path / "remote").as_uri(), tmp_path / "caches"
    program = Path(__file__).with_name("ray_at_url.py")
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
