"""rosbag2 databases that were cut or damaged: every row whose bytes are there comes out, the others are counted."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import zstandard

from perception_batch.errors import LogError, WriteError
from perception_batch.read.containers import place
from perception_batch.read.containers.sqlite_file import SqliteFile

T0 = 1_700_000_000_123_456_789
Row = tuple[int, str, bytes]
PAGE = 4096


def write_db(path: Path, rows: int = 60, sizes: tuple[int, ...] = (30, 9000, 700, 2500)) -> list[Row]:
    """As rosbag2's recorder writes it, with random data, so that each byte is found again in the file."""
    rng = np.random.default_rng(5)
    out = []
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            "CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL);"
            "CREATE TABLE metadata(id INTEGER PRIMARY KEY, metadata_version INTEGER NOT NULL, metadata TEXT NOT NULL);"
            "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,"
            " serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL);"
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL,"
            " data BLOB NOT NULL);"
            "CREATE INDEX timestamp_idx ON messages (timestamp ASC);"
            "INSERT INTO schema VALUES (3, 'humble');"
        )
        for i in range(3):
            db.execute(
                "INSERT INTO topics VALUES (?, ?, 'std_msgs/msg/String', 'cdr', '')", (i + 1, f"/t{i}")
            )
        db.commit()
        for i in range(rows):
            row = (
                T0 + i * 10_000_000 + (i % 5 == 0) * 25_000_000,
                f"/t{i % 3}",
                b"\0\1\0\0" + rng.bytes(sizes[i % 4]),
            )
            out.append(row)
            db.execute(
                "INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)",
                (i % 3 + 1, row[0], row[2]),
            )
            db.commit()
    return sorted(out)


def rows_of(path: Path) -> tuple[list[Row], Counter[str]]:
    before = sorted(p.name for p in path.parent.iterdir())
    with closing(SqliteFile(path, 1 << 28)) as file:
        counts = file.counts()
        out = [(m.log_ns, m.channel.topic, m.data) for m in file.messages(file.channels)]
        again = [(m.log_ns, m.channel.topic, m.data) for m in file.messages(file.channels)]
        lost = Counter[str]()
        for loss in file.losses:
            assert "\n" not in loss.reason
            lost[loss.topic] += loss.count
        ids = {c.id for c in file.channels}
        assert sum(n for i, n in counts.items() if i in ids) <= len(out) + sum(lost.values())
    assert out == again
    assert [r[0] for r in out] == sorted(r[0] for r in out)
    assert sorted(p.name for p in path.parent.iterdir()) == before
    return out, lost


def last_page_of(data: bytes, row: Row) -> int:
    """The oracle: where in the file the bytes of a message stand, looked up one by one."""
    blob = row[2]
    pieces = [blob[i : i + 12] for i in range(0, len(blob) - 12, 12)] + [blob[-12:]]
    found = [data.find(piece) for piece in pieces]
    return max((at // PAGE for at in found if at >= 0), default=0)


def test_cut_anywhere_gives_every_row_that_is_whole(tmp_path: Path) -> None:
    written = write_db(tmp_path / "a.db3")
    data = (tmp_path / "a.db3").read_bytes()
    assert rows_of(tmp_path / "a.db3") == (written, Counter())
    last = {row: last_page_of(data, row) for row in written}
    cut = tmp_path / "cut.db3"
    came = set()
    for size in np.random.default_rng(2).integers(PAGE * 7, len(data), 200).tolist():
        cut.write_bytes(data[:size])
        out, _ = rows_of(cut)
        assert out == [row for row in written if last[row] < size // PAGE], f"cut at {size}"
        came.add(len(out))
    assert len(came) > 20
    for size in (17, 100, 512, PAGE, PAGE * 3):
        cut.write_bytes(data[:size])
        with pytest.raises((LogError, ValueError, sqlite3.Error)):
            rows_of(cut)


def test_flipped_bits(tmp_path: Path) -> None:
    """2,000 of them: at most what stands on one page is lost, and what is lost is counted."""
    written = write_db(tmp_path / "a.db3", rows=30, sizes=(30, 5000, 100, 400))
    data = (tmp_path / "a.db3").read_bytes()
    rng = np.random.default_rng(3)
    path = tmp_path / "flipped.db3"
    messages_from = min(data.find(row[2][:30]) for row in written) // PAGE * PAGE
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for _ in range(2000):
        bit = int(rng.integers(16 * 8, len(data) * 8))
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        try:
            out, _ = rows_of(path)
        except ValueError as error:
            assert bit // 8 < messages_from, f"bit {bit}: {error}"
            refused += 1
            continue
        if bit // 8 >= messages_from:
            assert len(out) >= len(written) - 14, f"bit {bit}"
    assert refused < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 200_000, "KiB"


def test_a_damaged_page_in_the_middle_costs_its_rows_only(tmp_path: Path) -> None:
    written = write_db(tmp_path / "a.db3", rows=200)
    data = bytearray((tmp_path / "a.db3").read_bytes())
    leaves = [
        at for at in range(len(data) // 2 // PAGE * PAGE, len(data), PAGE)
        if data[at] == 13 and 0 < int.from_bytes(data[at + 3 : at + 5], "big") < 40
    ]  # fmt: skip
    leaf = leaves[1]
    on_it = [row for row in written if data.find(row[2][:20]) // PAGE * PAGE == leaf]
    assert 1 < len(on_it) < 10
    data[leaf : leaf + PAGE] = bytes(PAGE)
    (tmp_path / "a.db3").write_bytes(data)
    out, lost = rows_of(tmp_path / "a.db3")
    assert out == [row for row in written if row not in on_it]
    assert sum(lost.values()) == len(on_it)


def test_a_damaged_index_is_noticed(tmp_path: Path) -> None:
    """sqlite believes an index that says it holds fewer messages."""
    written = write_db(tmp_path / "a.db3", rows=20)
    data = bytearray((tmp_path / "a.db3").read_bytes())
    leaf = next(at for at in range(0, len(data), PAGE) if data[at] == 10 and data[at + 4] == 20)
    data[leaf + 4] = 15
    (tmp_path / "a.db3").write_bytes(data)
    assert rows_of(tmp_path / "a.db3")[0] == written


def test_pages_that_lead_in_circles_end(tmp_path: Path) -> None:
    write_db(tmp_path / "a.db3", rows=300)
    data = bytearray((tmp_path / "a.db3").read_bytes())
    for at in range(PAGE, len(data), PAGE):
        if data[at] in (2, 5):
            number = at // PAGE + 1
            for i in range(int.from_bytes(data[at + 3 : at + 5], "big")):
                cell = int.from_bytes(data[at + 12 + 2 * i : at + 14 + 2 * i], "big")
                data[at + cell : at + cell + 4] = number.to_bytes(4, "big")
            data[at + 8 : at + 12] = number.to_bytes(4, "big")
    (tmp_path / "a.db3").write_bytes(data)
    out, _ = rows_of(tmp_path / "a.db3")
    assert len(out) == 300


def test_a_hot_journal_is_rolled_back_elsewhere(tmp_path: Path) -> None:
    """As a recorder that was killed in a transaction leaves it; the journal names a file that is not ours."""
    path = tmp_path / "a.db3"
    written = write_db(path, rows=20)
    script = (
        "import sqlite3, os, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('PRAGMA cache_size=1')\n"
        "db.execute('BEGIN')\n"
        "db.execute('UPDATE messages SET data = zeroblob(9000)')\n"
        "os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    journal = path.with_name("a.db3-journal")
    assert journal.stat().st_size > 0
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    name = str(victim).encode()
    with journal.open("ab") as file:
        check = sum(b - 256 * (b > 127) for b in name) % 2**32
        file.write((1 << 30 // 4096 + 1).to_bytes(4, "big")[:4] + name + len(name).to_bytes(4, "big"))
        file.write(check.to_bytes(4, "big") + bytes.fromhex("d9d505f920a163d7"))
    before = path.read_bytes(), journal.read_bytes()
    assert rows_of(path)[0] == written
    assert (path.read_bytes(), journal.read_bytes()) == before
    assert victim.read_bytes() == b"precious"


def test_a_message_that_cannot_be_unpacked_loses_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.db3"
    written = write_db(path, rows=10)
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE messages SET data = ? WHERE id = 4", (zstandard.compress(b"a" * 999)[:15],))
        db.execute("UPDATE messages SET data = 'text' WHERE id = 5")
        db.execute("UPDATE messages SET timestamp = 'late' WHERE id = 7")
        db.execute("UPDATE topics SET name = x'00ff' WHERE id = 3")
        db.commit()
    out, lost = rows_of(path)
    gone = {3, 4, 6} | {i for i in range(10) if i % 3 == 2}
    stamps = [T0 + i * 10_000_000 + (i % 5 == 0) * 25_000_000 for i in range(10) if i not in gone]
    assert [r[0] for r in out] == sorted(stamps)
    assert set(out) < set(written)
    assert lost["/t0"] == 2
    assert lost["/t1"] == 1
    assert lost["*"] == 3


def test_no_room_for_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.db3"
    write_db(path, rows=3)
    path.with_name("a.db3-wal").write_bytes(b"x")
    monkeypatch.setattr(place.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(WriteError, match="set TMPDIR") as caught:
        SqliteFile(path, 1)
    assert caught.value.exit_status == 75
