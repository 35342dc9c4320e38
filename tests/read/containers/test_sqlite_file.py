"""rosbag2's sqlite3 files: counted without reading them where their metadata adds up, and else all the same."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import yaml
from log_writer import START_NS, CameraSpec, write_log

from perception_batch.errors import LogError
from perception_batch.read import open_log
from perception_batch.read.containers.sqlite_file import SqliteFile
from perception_batch.types import EncodedFrame

A, B = "/a/image_raw/compressed", "/b/image_raw/compressed"


def bag(folder: Path, splits: int = 1, **kwargs: object) -> Path:
    cameras = [CameraSpec("a", drop=[1, 2], **kwargs), CameraSpec("b", phase_ms=20, **kwargs)]  # type: ignore[arg-type]
    return write_log(folder, "sqlite3", cameras, frames=30, splits=splits, ego_speed_mps=3)


def change(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as db:
        for sql in statements:
            db.execute(sql)
        db.commit()


def counted(path: Path) -> dict[str, int]:
    with open_log([path]) as log:
        counts = {t.name: t.count for t in log.topics}
        frames = [x for x in log.stream(log.select(None)) if isinstance(x, EncodedFrame)]
        assert {c: sum(f.camera == c for f in frames) for c in "ab"} == {"a": 28, "b": 30}
        assert log.losses == ()
    return counts


def overstate(path: Path) -> None:
    """Let ``metadata.yaml`` state twice as many messages as there are."""
    loaded = yaml.safe_load((path / "metadata.yaml").read_text())
    for entry in loaded["rosbag2_bagfile_information"]["topics_with_message_count"]:
        entry["message_count"] *= 2
    (path / "metadata.yaml").write_text(yaml.safe_dump(loaded))


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("yaml_says", ["right", "nothing", "wrong"])
@pytest.mark.parametrize("table_says", ["right", "nothing", "wrong", "rubbish"])
def test_counts_do_not_depend_on_who_states_them(
    tmp_path: Path, splits: int, yaml_says: str, table_says: str
) -> None:
    path = bag(tmp_path, splits)
    expected = counted(path)
    assert (expected[A], expected[B]) == (28, 30)
    if yaml_says == "nothing":
        (path / "metadata.yaml").unlink()
    elif yaml_says == "wrong":
        overstate(path)
    for file in path.glob("*.db3"):
        if table_says == "nothing":
            change(file, "DROP TABLE metadata")
        elif table_says == "wrong":
            change(
                file,
                "UPDATE metadata SET metadata = replace(metadata, 'message_count: ', 'message_count: 1')",
            )
        elif table_says == "rubbish":
            change(file, "UPDATE metadata SET metadata = 'a: [' || char(0)")
    assert counted(path) == expected


def test_one_file_of_a_bag_has_its_own_counts(tmp_path: Path) -> None:
    path = bag(tmp_path, splits=2)
    total = 0
    for file in path.glob("*.db3"):
        change(file, "DROP TABLE metadata")
        with open_log([file]) as log:
            total += log.cameras["a"].count
            assert sum(isinstance(x, EncodedFrame) for x in log.stream(["a"])) == log.cameras["a"].count
    assert total == 28


def test_without_an_index_by_time(tmp_path: Path) -> None:
    path = bag(tmp_path)
    with open_log([path]) as log:
        expected = [(f.stamp_ns, f.log_ns) for f in log.stream(["a", "b"]) if isinstance(f, EncodedFrame)]
    # Written in another order, as by a converter that goes topic by topic.
    change(
        path / "log.db3",
        "DROP INDEX timestamp_idx",
        "CREATE TABLE other AS SELECT * FROM messages ORDER BY topic_id",
        "DELETE FROM messages",
        "INSERT INTO messages (topic_id, timestamp, data) SELECT topic_id, timestamp, data FROM other",
    )
    with open_log([path]) as log:
        assert [
            (f.stamp_ns, f.log_ns) for f in log.stream(["a", "b"]) if isinstance(f, EncodedFrame)
        ] == expected
        half = log.stream(["a"], expected[10][0], expected[20][0])
        assert all(
            expected[10][0] <= x.stamp_ns < expected[20][0] for x in half if isinstance(x, EncodedFrame)
        )


@pytest.mark.parametrize("stated", [True, False])
def test_a_damaged_page_keeps_what_came_and_says_what_is_lost(tmp_path: Path, stated: bool) -> None:
    noise = np.random.default_rng(3).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    path = bag(tmp_path, size=(160, 120), draw=lambda spec, i: noise)
    file = path / "log.db3"
    if not stated:
        (path / "metadata.yaml").unlink()
        change(file, "DROP TABLE metadata")
    with closing(sqlite3.connect(file)) as db:
        (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
    data = bytearray(file.read_bytes())
    leaves = [
        at for at in range(0, len(data), page_bytes)
        if data[at] == 13 and at > len(data) // 2 and 0 < int.from_bytes(data[at + 3 : at + 5], "big") < 40
        and int.from_bytes(data[at + 5 : at + 7], "big") < page_bytes
    ]  # fmt: skip
    data[leaves[0]] = 0xEE
    file.write_bytes(data)
    with open_log([path]) as log:
        frames = sum(isinstance(x, EncodedFrame) for x in log.stream(log.select(None)))
        lost = {loss.topic: loss.count for loss in log.losses}
        assert all("is damaged" in loss.reason for loss in log.losses)
        assert all(START_NS <= loss.start_ns < loss.stop_ns < START_NS + 4 * 10**9 for loss in log.losses)
    assert 45 < frames < 58, "the rows of one page"
    if stated:
        assert lost.get(A, 0) + lost.get(B, 0) == 58 - frames
    else:
        assert sum(lost.values()) >= 58 - frames


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("DROP TABLE topics", "no tables"),
        ("UPDATE topics SET name = x'00ff'", "no camera topic"),
    ],
)
def test_odd_tables_are_one_clear_line(tmp_path: Path, sql: str, says: str) -> None:
    path = bag(tmp_path)
    change(path / "log.db3", sql)
    with pytest.raises(LogError, match=says) as caught:
        open_log([path])
    assert "\n" not in str(caught.value)


def test_every_row_is_counted_where_nothing_is_stated(tmp_path: Path) -> None:
    path = bag(tmp_path)
    change(path / "log.db3", "DELETE FROM messages WHERE id % 7 = 0")
    with closing(sqlite3.connect(path / "log.db3")) as db:
        oracle = dict(db.execute("SELECT topic_id, count(*) FROM messages GROUP BY topic_id"))
    file = SqliteFile(path / "log.db3", 1 << 20)
    try:
        assert dict(file.counts()) == oracle
        assert file.message_count == sum(oracle.values())
    finally:
        file.close()
