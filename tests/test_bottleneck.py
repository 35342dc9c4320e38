"""What limited a run, in words."""

from __future__ import annotations

import pytest

from perception_batch.bottleneck import name_bottleneck


def waits(**seams: tuple[float, float]) -> dict[str, dict[str, float]]:
    return {name: {"put_s": put, "get_s": get} for name, (put, get) in seams.items()}


STAGES = {
    "read": {"busy_s": 0.1},
    "decode": {"busy_s": 5.0},
    "letterbox": {"busy_s": 1.0},
    "detect": {"busy_s": 9.0},
    "fuse": {"busy_s": 0.5},
    "draw": {"busy_s": 0.9},
    "write": {"busy_s": 0.3},
    "encode": {"busy_s": 2.0},
}


@pytest.mark.parametrize(
    ("seams", "text"),
    [
        (
            waits(read=(8, 0.1), decode=(6.1, 0.1), detect=(0.0, 7.0), fuse=(0.1, 7.5)),
            "detect: decode waited 61 % of the time to hand over to it, fuse waited 70 % for it",
        ),
        (
            waits(read=(8, 0.1), decode=(0.0, 7.0), detect=(0.0, 7.0), fuse=(0.1, 7.5)),
            "decode: read waited 80 % of the time to hand over to it, detect waited 70 % for it",
        ),
        (
            waits(read=(8, 0.1), decode=(8.0, 0.0), detect=(8.0, 0.1), fuse=(9.0, 0.0)),
            "write (encode): fuse waited 90 % of the time to hand over to it",
        ),
        (
            waits(read=(0.0, 9.0), decode=(0.0, 9.0), detect=(0.0, 9.0), fuse=(0.0, 9.0)),
            "read: decode waited 90 % for it",
        ),
        (
            waits(read=(1.0, 0.5), decode=(1.0, 0.5), detect=(1.0, 0.5), fuse=(1.0, 0.5)),
            "detect worked longest; no stage waited long for another, they share 2 cores",
        ),
        (  # a short log: all of it lies in the queues before anyone has to wait
            waits(read=(0.0, 0.4), decode=(0.0, 0.2), detect=(0.0, 6.0), fuse=(0.0, 6.5)),
            "detect: fuse waited 60 % for it",
        ),
    ],
)
def test_the_slowest_is_named_with_those_who_wait_for_it(
    seams: dict[str, dict[str, float]], text: str
) -> None:
    assert name_bottleneck(STAGES, seams, 10.0, 2) == text


def test_without_threads_there_is_nothing_to_name() -> None:
    assert name_bottleneck(STAGES, {}, 10.0, 2) == ""
    assert name_bottleneck(STAGES, waits(read=(1, 1)), 0.0, 2) == ""
