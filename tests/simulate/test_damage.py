"""What the damage step tells, against what other people's readers find in the damaged copies."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore
from simulate.flat_stage import flat_stage

from perception_batch.errors import ConfigError, LogError, WriteError
from perception_batch.simulate.damage import Damage, damage_log
from perception_batch.simulate.drive import simulate
from perception_batch.simulate.settings import SimulateSettings

CONTAINERS = ("bag", "sqlite3", "mcap", "foxglove")


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """About 3 MB each, so that there are several chunks."""
    folder = tmp_path_factory.mktemp("logs")
    return {
        c: simulate(
            folder / c,
            SimulateSettings(preset="front", duration_s=4.0, size_px=(192, 144), image="rgb8", container=c),  # type: ignore[arg-type]
            stage=flat_stage(),
        )
        for c in CONTAINERS
    }


def messages(log: Path) -> list[tuple[str, int, bytes]]:
    """(topic, log time, bytes) by an ordinary reader."""
    if log.suffix == ".mcap":
        from mcap.reader import make_reader

        with log.open("rb") as stream:
            return [(c.topic, m.log_time, bytes(m.data)) for _, c, m in make_reader(stream).iter_messages()]
    with AnyReader([log], default_typestore=get_typestore(Stores.LATEST)) as reader:
        return [(c.topic, t, bytes(raw)) for c, t, raw in reader.messages()]


def told(report: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(report.survivors).to_pylist()
    assert Counter(r["status"] for r in rows) == report.counts
    return rows


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_log_that_nothing_is_done_to_is_told_whole(
    tmp_path: Path, logs: dict[str, Path], container: str
) -> None:
    rows = told(damage_log(logs[container], tmp_path / "d", Damage()))
    whole = messages(logs[container])
    assert [(r["topic"], r["log_ns"]) for r in rows] == [(t, n) for t, n, _ in whole]
    assert {r["status"] for r in rows} == {"intact"}
    for topic in {r["topic"] for r in rows}:
        numbers = [r["sequence"] for r in rows if r["topic"] == topic]
        assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize("container", ["mcap", "foxglove"])
@pytest.mark.parametrize("keep", [0.4, 0.65, 0.9])
def test_a_cut_mcap_holds_what_is_told(
    tmp_path: Path, logs: dict[str, Path], container: str, keep: float
) -> None:
    from mcap.exceptions import McapError
    from mcap.records import Channel, Chunk, Message
    from mcap.stream_reader import StreamReader, breakup_chunk

    report = damage_log(logs[container], tmp_path / "d", Damage(keep=keep))
    file = report.log if report.log.is_file() else next(report.log.glob("*.mcap"))
    found: list[tuple[str, int]] = []
    topics: dict[int, str] = {}
    with file.open("rb") as stream:
        try:
            for record in StreamReader(stream, emit_chunks=True).records:
                for inner in breakup_chunk(record) if isinstance(record, Chunk) else [record]:
                    if isinstance(inner, Channel):
                        topics[inner.id] = inner.topic
                    elif isinstance(inner, Message):
                        found.append((topics[inner.channel_id], inner.log_time))
        except McapError:
            pass  # the cut
    rows = told(report)
    assert [(r["topic"], r["log_ns"]) for r in rows if r["status"] == "intact"] == found
    # Of the chunk that is cut, the bytes that are there hold the messages that are told so, and no more.
    data = file.read_bytes()
    whole = messages(logs[container])
    for row, (_, _, payload) in zip(rows, whole, strict=True):
        if container == "mcap" and len(payload) > 5000:  # pictures: their bytes are unlike any other's
            assert (payload in data) == (row["status"] in ("intact", "cut_chunk"))
    assert report.counts["intact"] > 0
    assert report.counts["lost"] > 0
    assert ("cut_chunk" in report.counts) <= (container == "mcap")


@pytest.mark.parametrize("keep", [0.45, 0.7])
def test_a_cut_bag_and_a_cut_database_hold_what_is_told(
    tmp_path: Path, logs: dict[str, Path], keep: float
) -> None:
    for container in ("bag", "sqlite3"):
        report = damage_log(logs[container], tmp_path / container, Damage(keep=keep))
        file = report.log if report.log.is_file() else next(report.log.glob("*.db3"))
        rows, whole, data = told(report), messages(logs[container]), file.read_bytes()
        assert report.counts["lost"] > 0
        assert report.counts["intact"] > 0
        for row, (topic, log_ns, payload) in zip(rows, whole, strict=True):
            assert (row["topic"], row["log_ns"]) == (topic, log_ns)
            if container == "bag" and len(payload) > 5000:
                assert (payload in data) == (row["status"] != "lost")
        if container == "sqlite3":
            database = sqlite3.connect(f"{file.as_uri()}?immutable=1", uri=True)
            database.execute("PRAGMA writable_schema = ON")  # without it SQLite refuses any shortened file
            readable = set()
            for number in range(1, len(rows) + 1):
                try:
                    row_ = database.execute("SELECT data FROM messages WHERE id = ?", (number,)).fetchone()
                    readable.add(number) if row_ and bytes(row_[0]) == whole[number - 1][2] else None
                except sqlite3.DatabaseError:
                    pass
            database.close()
            assert readable == {i for i, r in enumerate(rows, 1) if r["status"] == "intact"}


@pytest.mark.parametrize("container", ["bag", "mcap"])
def test_flipped_bits_in_pictures_are_told_and_the_rest_is_read_as_before(
    tmp_path: Path, logs: dict[str, Path], container: str
) -> None:
    for seed in range(4):
        report = damage_log(logs[container], tmp_path / str(seed), Damage(flip_bits=6, seed=seed))
        rows, whole = told(report), messages(logs[container])
        assert report.counts.get("altered", 0) > 0
        if "unreachable" in report.counts:
            continue  # a reader may stumble there
        for row, before, after in zip(rows, whole, messages(report.log), strict=True):
            assert (before == after) == (row["status"] == "intact")


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_flip_in_the_first_bytes_leaves_nothing_reachable(
    tmp_path: Path, logs: dict[str, Path], container: str
) -> None:
    report = damage_log(logs[container], tmp_path / "d", Damage(flip_at=(3,)))
    assert set(report.counts) == {"unreachable"}


def test_one_flip_at_a_known_place_in_an_mcap(tmp_path: Path, logs: dict[str, Path]) -> None:
    """In the middle of one picture: that one. In the length of its record: all that follow in its chunk."""
    file = next(logs["mcap"].glob("*.mcap"))
    data, whole = file.read_bytes(), messages(logs["mcap"])
    number = [i for i, (t, _, _) in enumerate(whole) if t.endswith("image_raw")][7]
    at = data.index(whole[number][2])
    rows = told(damage_log(logs["mcap"], tmp_path / "a", Damage(flip_at=(at + 3000,))))
    assert [i for i, r in enumerate(rows) if r["status"] != "intact"] == [number]
    rows = told(damage_log(logs["mcap"], tmp_path / "b", Damage(flip_at=(at - 22 - 8,))))
    assert rows[number]["status"] == "altered"
    unreachable = [i for i, r in enumerate(rows) if r["status"] == "unreachable"]
    assert unreachable == list(range(number + 1, number + 1 + len(unreachable)))
    assert 0 < len(unreachable) < len(rows) - number - 1  # the next chunk is found again
    packed = told(damage_log(logs["foxglove"], tmp_path / "c", Damage(flip_at=(5000,))))
    altered = [i for i, r in enumerate(packed) if r["status"] == "altered"]
    assert altered == list(range(len(altered)))  # the whole first chunk, which is compressed
    assert 0 < len(altered) < len(packed)


@pytest.mark.parametrize("container", CONTAINERS)
def test_without_an_index_all_messages_are_there(
    tmp_path: Path, logs: dict[str, Path], container: str
) -> None:
    report = damage_log(logs[container], tmp_path / "d", Damage(drop_index=True))
    assert set(report.counts) == {"intact"}
    if container == "sqlite3":
        file = next(report.log.glob("*.db3"))
        assert not (report.log / "metadata.yaml").exists()
        database = sqlite3.connect(file)
        assert database.execute("SELECT count(*) FROM messages").fetchone()[0] == len(
            messages(logs[container])
        )
        assert not database.execute("SELECT * FROM sqlite_master WHERE type = 'index'").fetchall()
        database.close()
        return
    file = report.log if report.log.is_file() else next(report.log.glob("*.mcap"))
    with pytest.raises(Exception, match=r"[Ii]ndex|magic|MCAP|End|exceeds limit"):
        messages(report.log if container != "mcap" else file)
    original = logs[container] if logs[container].is_file() else next(logs[container].glob("*.mcap"))
    if container == "bag":  # only the bag's header and the index differ
        assert file.read_bytes()[4117:] == original.read_bytes()[4117 : file.stat().st_size]
    else:
        assert original.read_bytes().startswith(file.read_bytes())


def test_the_original_is_left_alone_and_nothing_is_overwritten(tmp_path: Path, logs: dict[str, Path]) -> None:
    before = logs["bag"].read_bytes()
    damage_log(logs["bag"], tmp_path / "d", Damage(drop_index=True, keep=0.5, flip_bits=9))
    assert logs["bag"].read_bytes() == before
    with pytest.raises(WriteError, match="exists"):
        damage_log(logs["bag"], tmp_path / "d", Damage(keep=0.5))
    first = (tmp_path / "d" / "drive.bag").read_bytes()
    damage_log(logs["bag"], tmp_path / "e", Damage(drop_index=True, keep=0.5, flip_bits=9))
    assert (tmp_path / "e" / "drive.bag").read_bytes() == first


def test_impossible_damage_is_refused(tmp_path: Path, logs: dict[str, Path]) -> None:
    for bad in ({"keep": 0.0}, {"keep": 1.5}, {"keep": float("nan")}, {"flip_bits": -1}):
        with pytest.raises(ConfigError, match="allowed"):
            Damage(**bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="bytes are kept"):
        damage_log(logs["bag"], tmp_path / "d", Damage(keep=1e-5, flip_bits=1000))
    other = tmp_path / "other.bag"
    other.write_bytes(b"nothing of that kind")
    with pytest.raises(LogError, match="no MCAP"):
        damage_log(other, tmp_path / "d", Damage(keep=0.5))
    assert not (tmp_path / "d").exists()
