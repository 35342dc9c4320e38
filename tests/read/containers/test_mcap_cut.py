"""An MCAP file cut anywhere gives exactly the messages that were whole."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from mcap_samples import KINDS, boundaries, lost_count, read_all, sample, whole_messages

from perception_batch.errors import LogError

SMALL = [name for name in KINDS if not name.startswith("large")]
CUTS = 500


def check(path: Path, data: bytes, cut: int, everything: int) -> None:
    path.write_bytes(data[:cut])
    expected = whole_messages(data[:cut])
    try:
        got, file = read_all(path)
    except LogError as error:
        assert expected == []
        assert "no topic is left" in error.detail
        return
    assert got == expected, f"cut at byte {cut} of {len(data)}"
    assert file.message_count == len(expected)
    if len(expected) < everything:
        lost, more = lost_count(file)
        assert more or lost == everything - len(expected), f"cut at byte {cut}: {file.losses}"


@pytest.mark.parametrize("name", SMALL)
def test_cut_at_every_record_boundary(tmp_path: Path, name: str) -> None:
    data = sample(KINDS[name])
    total = len(whole_messages(data))
    assert total == KINDS[name].messages
    places = boundaries(data)
    assert len(places) > 20
    for cut in places:
        check(tmp_path / "log.mcap", data, cut, total)


@pytest.mark.parametrize("name", KINDS)
def test_cut_at_random_bytes(tmp_path: Path, name: str) -> None:
    chance = random.Random(name)
    data = sample(KINDS[name], seed=1)
    some = False
    for _ in range(-(-CUTS // len(KINDS))):
        cut = chance.randrange(8, len(data))
        check(tmp_path / "log.mcap", data, cut, KINDS[name].messages)
        some |= 0 < len(whole_messages(data[:cut])) < KINDS[name].messages
    assert some
