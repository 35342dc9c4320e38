"""How a drive is cut: every timestep has one segment, and the plan reads back as it was."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs.segment_samples import FIRST_NS, PLAN

from perception_batch.errors import LogError
from perception_batch.runs.segments import SegmentPlan, cut, frozen, thawed

STAMPS = st.integers(-(1 << 63), (1 << 63) - 1)
PLANS = st.builds(
    SegmentPlan,
    st.just("f"),
    st.just("d"),
    st.integers(0, 1 << 62),
    st.integers(1, 10**11),
    st.integers(0, 50),
    st.integers(1, 50),
    st.integers(0, 10**10),
    st.integers(0, 10**10),
    st.none(),
    st.just({}),
)


@given(PLANS, STAMPS)
def test_every_stamp_is_in_exactly_the_segment_that_its_span_says(plan: SegmentPlan, stamp: int) -> None:
    def inside(segment: int) -> bool:
        start, stop = plan.span_ns(segment)
        return (start is None or stamp >= start) and (stop is None or stamp < stop)

    assert [k for k in plan.wanted() if inside(k)] == [plan.segment_of(stamp)]


@given(PLANS)
def test_spans_join_without_gaps_and_reading_is_wider(plan: SegmentPlan) -> None:
    spans = [plan.span_ns(k) for k in plan.wanted()]
    assert spans[0][0] is None
    assert spans[-1][1] is None
    assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))
    for k, (start, stop) in zip(plan.wanted(), spans, strict=True):
        low, high = plan.reading_ns(k)
        assert low == (None if start is None else start - plan.lead_in_ns)
        assert high == (None if stop is None else stop + plan.lag_ns)


@given(st.lists(st.tuples(st.integers(-50, 400), st.integers(0, 60)), max_size=8))
def test_segments_wanted_for_ranges_are_those_that_a_slow_search_finds(pairs: list[tuple[int, int]]) -> None:
    ranges, end = [], -(10**9)
    for start, length in sorted(pairs):
        if start >= end:
            ranges.append((start, start + length))
            end = start + length
    plan = replace(PLAN, origin_ns=0, length_ns=30, count=9, ranges_ns=tuple(ranges))
    slow = sorted({plan.segment_of(t) for a, b in ranges for t in range(a, b)})
    assert list(plan.wanted()) == slow


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), 1 << 63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6), JSON, max_size=5))
def test_what_is_frozen_thaws_equal(record: dict[str, object]) -> None:
    assert thawed(json.loads(json.dumps(frozen(record), allow_nan=False))) == record


def test_a_camera_may_be_called_float() -> None:
    assert thawed(frozen({"float": 3})) == {"float": 3}
    assert math.isnan(thawed(frozen([math.nan]))[0])


@given(PLANS, st.none() | st.lists(st.tuples(STAMPS, STAMPS), max_size=3).map(tuple))
def test_a_plan_reads_back_equal(plan: SegmentPlan, ranges: tuple[tuple[int, int], ...] | None) -> None:
    plan = replace(plan, ranges_ns=ranges, sync={"sd": math.inf, "names": ["ä", "\ud800"]})
    again = SegmentPlan.from_json(plan.to_json(), Path("plan.json"))
    plain = SegmentPlan.from_json(again.to_json(), Path("plan.json"))
    assert again == plain == plan
    assert again.hash == plan.hash


@pytest.mark.parametrize(
    "change", ["log_fingerprint", "detect_hash", "origin_ns", "length_ns", "count", "sync"]
)
def test_any_difference_is_another_hash(change: str) -> None:
    other: object = {"a": 2} if change == "sync" else 7 if change.endswith(("_ns", "count")) else "e"
    assert replace(PLAN, **{change: other}).hash != PLAN.hash  # type: ignore[arg-type]


BROKEN = {
    "cut": PLAN.to_json()[:-9],
    "empty": "",
    "list": "[]",
    "deep": "[" * 100_000,
    "no schema": "{}",
    "text for a number": PLAN.to_json().replace('"count": 5', '"count": "5"'),
    "bool": PLAN.to_json().replace('"count": 5', '"count": true'),
    "huge": PLAN.to_json().replace('"count": 5', '"count": 1' + "0" * 30),
    "zero": PLAN.to_json().replace('"count": 5', '"count": 0'),
    "ranges": PLAN.to_json().replace('"ranges_ns": null', '"ranges_ns": [1]'),
    "sync": PLAN.to_json().replace('{"a": 1.5}', "[]"),
    "missing": PLAN.to_json().replace('"count"', '"counts"'),
    "newer": PLAN.to_json().replace('"schema": 1', '"schema": 2'),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_plan_is_one_clear_error(name: str) -> None:
    with pytest.raises(LogError, match="newer version" if name == "newer" else "is no plan of a drive"):
        SegmentPlan.from_json(BROKEN[name], Path("plan.json"))


@pytest.mark.parametrize(
    ("span_s", "last_s", "first", "count"),
    [
        ((None, None), 0, 0, 1),
        ((None, None), 59.999, 0, 1),
        ((None, None), 60, 0, 2),
        ((None, 60), 600, 0, 1),
        ((60, 120), 600, 1, 1),
        ((59, 121), 600, 0, 3),
        ((-5, None), 100, 0, 2),
        ((700, None), 600, 11, 1),  # nothing there: one empty segment
        ((None, -5), 600, 0, 1),
        ((None, None), 9e9, 0, 150_000_001),  # a stamp that cannot be costs no memory
    ],
)
def test_cut(span_s: tuple[float | None, float | None], last_s: float, first: int, count: int) -> None:
    def at(seconds: float) -> int:
        return FIRST_NS + round(seconds * 1e9)

    span = tuple(None if s is None else at(s) for s in span_s)
    plan = cut(
        log_fingerprint="f",
        detect_hash="d",
        origin_ns=FIRST_NS,
        length_s=60.0,
        last_ns=at(last_s),
        span_ns=(span[0], span[1]),
        lead_in_ns=1,
        lag_ns=1,
        sync={},
    )
    assert (plan.first, plan.count) == (first, count)
    assert len(plan.wanted()) == count
