"""Logs that were compressed as a whole file."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import lz4.frame
import pytest
import zstandard
from mcap_samples import KINDS, Kind, Whole, sample, surplus, whole_messages

from perception_batch.errors import LogError, WriteError
from perception_batch.read.containers import whole_file
from perception_batch.read.containers.logfile import LogFile, open_log_file

LARGE = Kind(messages=60, body=30_000, chunk=100_000)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def everything(file: LogFile) -> list[Whole]:
    return [(m.channel.topic, m.log_ns, m.publish_ns, m.data) for m in file.messages(file.channels)]


def packed(data: bytes, codec: str) -> bytes:
    if codec == "lz4":
        return bytes(lz4.frame.compress(data))
    options = {"frames": zstandard.ZstdCompressor(), "zstd": zstandard.ZstdCompressor(write_checksum=True)}[
        codec
    ]
    half = len(data) // 2
    return (
        options.compress(data)
        if codec == "zstd"
        else options.compress(data[:half]) + options.compress(data[half:])
    )


@pytest.mark.parametrize("codec", ["zstd", "lz4", "frames"])
def test_whole_and_gone_afterwards(tmp_path: Path, temporary: Path, codec: str) -> None:
    data = sample(LARGE)
    path = tmp_path / "drive.mcap.packed"
    path.write_bytes(packed(data, codec))
    file = open_log_file(path, 1 << 20)
    assert file.path == path
    assert everything(file) == whole_messages(data)
    assert file.message_count == 60
    assert file.losses == ()
    assert len(list(temporary.iterdir())) == 1
    file.close()
    assert list(temporary.iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["drive.mcap.packed", "temporary"]


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_cut(tmp_path: Path, temporary: Path, codec: str, share: float) -> None:
    data = sample(LARGE)
    cut = packed(data, codec)
    cut = cut[: int(len(cut) * share)]
    stream = (
        zstandard.ZstdDecompressor().decompressobj() if codec == "zstd" else lz4.frame.LZ4FrameDecompressor()
    )
    path = tmp_path / "drive.zst"
    path.write_bytes(cut)
    file = open_log_file(path, 1 << 20)
    got = everything(file)
    assert got == whole_messages(stream.decompress(cut))
    assert 0 < len(got) < 60
    assert file.losses
    file.close()


def test_damaged(tmp_path: Path, temporary: Path) -> None:
    data = sample(Kind(messages=60, body=30_000, chunk=100_000, crc=True))
    broken = bytearray(packed(data, "zstd"))
    broken[-2] ^= 1  # the checksum over all
    path = tmp_path / "drive.zst"
    path.write_bytes(broken)
    file = open_log_file(path, 1 << 20)
    got = everything(file)
    assert not surplus(got, whole_messages(data))
    assert len(got) > 50, "the last block goes with the checksum"
    assert "its compression is damaged after" in file.losses[0].reason
    file.close()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no log at all", "what it unpacks to: not a log"),
        (b"", "what it unpacks to: the file is empty"),
        (zstandard.compress(b"x" * 100), "compressed twice"),
    ],
)
def test_nothing_in_it(tmp_path: Path, temporary: Path, content: bytes, said: str) -> None:
    path = tmp_path / "drive.zst"
    path.write_bytes(zstandard.compress(content))
    with pytest.raises(LogError, match=said) as info:
        open_log_file(path, 1 << 20)
    assert info.value.path == path
    assert list(temporary.iterdir()) == []


def test_a_bomb(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_file, "ALWAYS_ALLOWED_BYTES", 1 << 20)
    path = tmp_path / "drive.zst"
    path.write_bytes(zstandard.compress(sample(KINDS["none"]) + bytes(50 << 20)))
    with pytest.raises(LogError, match="unpack to more than"):
        open_log_file(path, 1 << 20)
    assert list(temporary.iterdir()) == []


def test_a_full_disk(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> object:
        yield b"a"
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(whole_file, "PACKED", {b"\x28\xb5\x2f\xfd": full})
    path = tmp_path / "drive.zst"
    path.write_bytes(zstandard.compress(sample(KINDS["none"])))
    with pytest.raises(WriteError, match="has no room to unpack it") as info:
        open_log_file(path, 1 << 20)
    assert info.value.exit_status == 75
    assert list(temporary.iterdir()) == []
