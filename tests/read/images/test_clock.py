"""Which clock a topic's stamps come from."""

from __future__ import annotations

import pytest

from perception_batch.read.images.clock import DAY_NS, Times, choose_clock, median_skew_ns, plausible

T0 = 1_700_000_000_000_000_000
MS = 1_000_000


def times(header: int | None = 0, publish: int | None = 0, n: int = 10, log_ns: int = T0) -> list[Times]:
    """Delays in ms of header and publish time before log time; None: zero."""
    out = []
    for i in range(n):
        at = log_ns + i * 100 * MS
        out.append(
            Times(0 if header is None else at - header * MS, 0 if publish is None else at - publish * MS, at)
        )
    return out


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (times(15, 5), "header"),
        (times(None, 5), "publish"),  # nobody set the header
        (times(None, 0), "log"),  # the recorder did not know
        (times(None, None), "log"),
        ([Times(T0, t.publish_ns, t.log_ns) for t in times(0, 5)], "publish"),  # always the same stamp
        ([Times(T0 - 3 * DAY_NS, T0, t.log_ns) for t in times()], "log"),
        (times(15, 5, n=1), "header"),
        ([], "log"),
        (times(0, 0, log_ns=0), "header"),  # clocks that begin at zero
        ([*times(15, 5)[:4], *times(None, 5)[4:]], "publish"),  # most of the headers are empty
    ],
)
def test_auto(seen: list[Times], expected: str) -> None:
    assert choose_clock("auto", seen) == expected


@pytest.mark.parametrize("setting", ["header", "publish", "log"])
def test_a_setting_is_obeyed(setting: str) -> None:
    assert choose_clock(setting, times(None, None)) == setting


def test_plausible() -> None:
    assert plausible(T0, T0 + DAY_NS)
    assert not plausible(T0, T0 + DAY_NS + 1)
    assert not plausible(0, T0)
    assert plausible(0, 5 * MS)


def test_skew_is_the_lower_median() -> None:
    assert median_skew_ns([]) == 0
    assert median_skew_ns([(0, 3), (0, 1), (0, 2), (0, 50)]) == 2
