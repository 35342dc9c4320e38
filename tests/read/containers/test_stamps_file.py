from __future__ import annotations

import pytest

from perception_batch.read.containers.stamps_file import fields, parse_stamp, stamp_in_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1531883530412470123", 1531883530412470123),
        ("0", 0),
        ("1531883530.412470123", 1531883530412470123),
        ("1531883530.4", 1531883530400000000),
        ("1531883530.4124701239", 1531883530412470123),
        ("2011-09-26 13:02:25.964389445", 1317042145964389445),
        ("2011-09-26T13:02:25Z", 1317042145000000000),
        ("1970-01-01 00:00:01.5", 1500000000),
        ("2011-13-26 13:02:25", None),
        ("1960-01-01 00:00:00", None),
        ("99999999999999999999", None),
        ("9223372036854775808", None),
        ("-5", None),
        ("1e9", None),
        ("\u0661\u0662", None),
        ("nan", None),
        ("", None),
    ],
)
def test_parse_stamp(text: str, expected: int | None) -> None:
    assert parse_stamp(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1531883530412470", 1531883530412470000),
        ("1531883530412470123", 1531883530412470123),
        ("1531883530412", 1531883530412000000),
        ("1531883530", 1531883530000000000),
        ("1531883530.25", 1531883530250000000),
        ("0000000005", 5_000_000_000),
        ("000123", None),
        ("9999999999999999999", None),
        ("abc", None),
    ],
)
def test_stamp_in_name(text: str, expected: int | None) -> None:
    assert stamp_in_name(text) == expected


def test_fields() -> None:
    assert fields("a.png, 12") == ["a.png", "12"]
    assert fields("a.png 12") == ["a.png", "12"]
    assert fields("a.png;12\t13") == ["a.png", "12", "13"]
    assert fields("2011-09-26 13:02:25.9") == ["2011-09-26 13:02:25.9"]
