"""Files of segments: the same to the bit, or not used at all."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import zipfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs.segment_samples import PLAN, content, same

from perception_batch.atomic import AtomicFile
from perception_batch.errors import EXIT_RETRY, EXIT_USAGE, WriteError
from perception_batch.runs.segment_content import SCHEMA, SegmentContent, SegmentKey, segment_key
from perception_batch.runs.segment_file import SegmentRefused, check_segment, read_segment, write_segment
from perception_batch.runs.segment_store import Made, SegmentStore, read_plan
from perception_batch.types import FrameRow

KEY = segment_key(PLAN, 2, weights_sha256="w" * 64, backend="torch", precision="fp32")
MADE = Made("w" * 64, "torch", "fp32")


@given(st.integers(0, 30), st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_what_is_written_is_read_to_the_bit(tmp_path_factory: Any, n: int, seed: int) -> None:
    path = tmp_path_factory.mktemp("s") / "detect_00002.zip"
    written = content(n, seed)
    write_segment(path, KEY, written, {"device": "cpu", "batch_size": 8})
    found = read_segment(path, KEY)
    assert same(found.content, written)
    assert found.key == KEY
    assert check_segment(path, KEY) == found.facts == {"device": "cpu", "batch_size": 8}
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_equal_contents_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_segment(tmp_path / name, KEY, content())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_numbers_beyond_64_bits_are_limited_as_in_the_tables(tmp_path: Path) -> None:
    row = FrameRow("front", 1 << 64, -(1 << 70), -1, "unused", "bad_stamp", 1 << 65, 3, "x")
    write_segment(tmp_path / "a", KEY, SegmentContent((), (row,)))
    (found,) = read_segment(tmp_path / "a", KEY).content.rows
    assert (found.stamp_ns, found.log_ns, found.width_px) == ((1 << 63) - 1, -(1 << 63), (1 << 63) - 1)


@pytest.mark.parametrize("field", [f.name for f in fields(SegmentKey) if f.name != "schema"])
def test_another_key_is_foreign(tmp_path: Path, field: str) -> None:
    write_segment(tmp_path / "a", KEY, content(2))
    other = replace(KEY, **{field: 3 if field == "segment" else "other"})  # type: ignore[arg-type]
    for look in (read_segment, check_segment):
        with pytest.raises(SegmentRefused, match=f"foreign: made with another {field}"):
            look(tmp_path / "a", other)


def test_a_newer_and_a_missing_file(tmp_path: Path) -> None:
    write_segment(tmp_path / "a", replace(KEY, schema=SCHEMA + 1), content(2))
    with pytest.raises(SegmentRefused) as caught:
        read_segment(tmp_path / "a", KEY)
    assert caught.value.why == "newer"
    write_segment(tmp_path / "a", replace(KEY, schema=SCHEMA - 1), content(2))
    with pytest.raises(SegmentRefused, match="foreign: made with another schema"):
        read_segment(tmp_path / "a", KEY)
    for name in ("none", "a/none"):
        with pytest.raises(SegmentRefused) as caught:
            read_segment(tmp_path / name, KEY)
        assert caught.value.why == "missing"


def refused_or_same(path: Path, data: bytes, written: SegmentContent) -> bool:
    """Whether damage was seen; what was not seen must have changed nothing."""
    path.write_bytes(data)
    try:
        found = read_segment(path, KEY)
    except SegmentRefused as refusal:
        assert refusal.why in ("damaged", "foreign", "newer")
        assert "\n" not in str(refusal)
        return True
    assert same(found.content, written)
    return False


def test_a_cut_file_is_damaged_wherever_it_is_cut(tmp_path: Path) -> None:
    written = content(3)
    write_segment(tmp_path / "a", KEY, written)
    data = (tmp_path / "a").read_bytes()
    for length in range(0, len(data), 97):
        assert refused_or_same(tmp_path / "b", data[:length], written), length
    assert refused_or_same(tmp_path / "b", bytes(len(data)), written)
    assert not refused_or_same(tmp_path / "b", data, written)


def test_no_flipped_bit_changes_what_is_read(tmp_path: Path) -> None:
    written = content(3)
    write_segment(tmp_path / "a", KEY, written)
    data = (tmp_path / "a").read_bytes()
    rng = np.random.default_rng(1)
    seen = 0
    for at in rng.choice(len(data) * 8, 400, replace=False).tolist():
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << (at % 8)
        seen += refused_or_same(tmp_path / "b", bytes(flipped), written)
    assert seen > 300  # the rest are times and flags of the archive that say nothing


def archive_of(parts: dict[str, bytes], compress: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compress) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "how", ["no parts", "no key", "other zip", "bomb", "folder", "key", "swapped", "one less"]
)
def test_archives_that_are_no_segments(tmp_path: Path, how: str) -> None:
    path, whole = tmp_path / "b", tmp_path / "a"
    write_segment(whole, KEY, content(4))
    with zipfile.ZipFile(whole) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    key = parts["key.json"]
    data = {
        "no parts": lambda: archive_of({}),
        "no key": lambda: archive_of({n: d for n, d in parts.items() if n != "key.json"}),
        "other zip": lambda: archive_of({"readme": b"hello"}),
        "bomb": lambda: archive_of({**parts, "boxes.parquet": bytes(50 << 20)}, zipfile.ZIP_DEFLATED),
        "folder": lambda: b"",
        "key": lambda: archive_of({**parts, "key.json": b"[1]"}),
        "swapped": lambda: archive_of({**parts, "boxes.parquet": parts["poses.parquet"]}),
        "one less": lambda: archive_of({**parts, "boxes.parquet": _fewer(tmp_path)}),
    }[how]()
    assert key
    if how == "folder":
        path.mkdir()
    else:
        path.write_bytes(data)
    with pytest.raises(SegmentRefused) as caught:
        read_segment(path, KEY)
    assert caught.value.why == "damaged"


def _fewer(folder: Path) -> bytes:
    write_segment(folder / "c", KEY, content(3))
    with zipfile.ZipFile(folder / "c") as archive:
        return archive.read("boxes.parquet")


@pytest.mark.parametrize(("code", "status"), [(errno.ENOSPC, EXIT_RETRY), (errno.EROFS, EXIT_USAGE)])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, status: int
) -> None:
    path = tmp_path / "a"
    write_segment(path, KEY, content(3))
    before = path.read_bytes()

    class Full(io.RawIOBase):
        def write(self, data: Any) -> int:
            raise OSError(code, os.strerror(code))

    opened = AtomicFile.__init__

    def on_full_disk(self: AtomicFile, where: Path, token: str = "") -> None:
        opened(self, where, token)
        self.stream.close()
        self.stream = Full()  # type: ignore[assignment]

    monkeypatch.setattr(AtomicFile, "__init__", on_full_disk)
    with pytest.raises(WriteError) as caught:
        write_segment(path, KEY, content(9))
    assert caught.value.exit_status == status
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_store_uses_what_is_whole_and_makes_the_rest_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = SegmentStore(tmp_path, PLAN, MADE)
    assert store.landed() == []
    store.begin()
    for segment in (0, 1, 3, 4):
        store.write(segment, content(3, segment))
    store.path(1).write_bytes(store.path(1).read_bytes()[:-40])
    SegmentStore(tmp_path, PLAN, replace(MADE, weights_sha256="other")).write(3, content(3, 3))
    (store.folder / "detect_7.zip").write_bytes(b"not ours")
    (store.folder / "detect_00002.zip.1a-b.partial").write_bytes(b"killed here")
    again = SegmentStore(tmp_path, PLAN, MADE)
    again.begin()
    assert not list(store.folder.glob("*.partial"))
    assert again.landed() == [0, 4]
    assert {s: r.why for s, r in again.refused.items()} == {1: "damaged", 3: "foreign"}
    assert again.missing([0, 4]) == [1, 2, 3]
    assert again.read(1) is None
    assert again.read(2) is None
    found = again.read(4)
    assert found is not None
    assert same(found.content, content(3, 4))
    assert len([r for r in caplog.records if "made again" in r.message]) == 2
    assert read_plan(tmp_path) == PLAN
    again.clear()
    assert read_plan(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_plan_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SegmentStore(tmp_path, PLAN, MADE)
    store.begin()
    (store.folder / "plan.json").write_bytes(b"{")
    assert read_plan(tmp_path) is None
    assert "planned anew" in caplog.text


WRITER = """
import sys
from pathlib import Path
from runs.segment_samples import PLAN, content
from perception_batch.runs.segment_store import Made, SegmentStore
store = SegmentStore(Path(sys.argv[1]), PLAN, Made("w" * 64, "torch", "fp32"))
store.begin()
kept = [content(120, segment) for segment in range(5)]
print("ready", flush=True)
while True:
    for segment in range(5):
        store.write(segment, kept[segment])
"""


def test_killed_at_any_moment_a_segment_is_whole_or_not_there(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    rng = np.random.default_rng(3)
    for round_ in range(5):
        folder = tmp_path / str(round_)
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, env=environment
        )
        assert process.stdout is not None
        with process:
            assert process.stdout.readline() == b"ready\n"
            try:
                process.wait(float(rng.uniform(0.0, 0.12)))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        store = SegmentStore(folder, PLAN, MADE)
        store.begin()
        for segment in range(5):
            found = store.read(segment)
            assert store.path(segment).exists() == (found is not None)
            assert found is None or same(found.content, content(120, segment))
        assert store.refused == {}
