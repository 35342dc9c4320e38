"""Flipped bits: no crash, no message that a checksum refuses, and nothing lost without a word."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcap_samples import KINDS, Whole, lost_count, read_all, sample, surplus, whole_messages

from perception_batch.errors import LogError

FLIPS = int(os.environ.get("FLIPS", "2000"))
NAMES = [name for name in KINDS if not name.startswith("large")]
VERIFIED = [name for name in NAMES if KINDS[name].crc and KINDS[name].chunked]


@pytest.fixture
def one_gigabyte() -> Iterator[None]:
    """No more than 1 GB of addresses can be had beyond those in use."""
    if not sys.platform.startswith("linux"):
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 10**9, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def flipped(data: bytes, chance: random.Random, count: int) -> bytes:
    out = bytearray(data)
    for _ in range(count):
        out[chance.randrange(8, len(out))] ^= 1 << chance.randrange(8)
    return bytes(out)


def check(path: Path, name: str, data: bytes, original: list[Whole], *, flips: int) -> None:
    path.write_bytes(data)
    try:
        got, file = read_all(path)
    except LogError:
        return
    if name in VERIFIED:
        assert not surplus(got, original), "a checksum would have refused this"
    # Without checksums, one flip can hide what another one did.
    missing = sum(surplus(original, got).values())
    if missing and (flips == 1 or name in VERIFIED):
        lost, more = lost_count(file)
        altered = sum(surplus(got, original).values())
        readable = {channel.id for channel in file.channels}
        foreign = sum(count for number, count in file.counts().items() if number not in readable)
        assert more or lost + altered + foreign >= missing, f"{missing} missing, reported {file.losses}"


@pytest.mark.usefixtures("one_gigabyte")
@pytest.mark.parametrize("name", NAMES)
def test_one_flipped_bit(tmp_path: Path, name: str) -> None:
    chance = random.Random(name)
    data = sample(KINDS[name], seed=2)
    original = whole_messages(data)
    for i in range(-(-FLIPS // len(NAMES))):
        broken = flipped(data, chance, 1)
        try:
            check(tmp_path / "log.mcap", name, broken, original, flips=1)
        except BaseException as error:
            places = [at for at, (a, b) in enumerate(zip(data, broken, strict=True)) if a != b]
            raise AssertionError(f"trial {i}: bytes {places} of {len(data)}") from error


@pytest.mark.usefixtures("one_gigabyte")
@pytest.mark.parametrize("name", NAMES)
def test_several_flipped_bits(tmp_path: Path, name: str) -> None:
    chance = random.Random(name + "several")
    data = sample(KINDS[name], seed=3)
    original = whole_messages(data)
    for _ in range(20):
        flips = chance.randrange(2, 30)
        check(tmp_path / "log.mcap", name, flipped(data, chance, flips), original, flips=flips)
