"""Figures by timestep, charts, moments and the verdict, against slow and obvious ways to get them."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report.report_run import T0, write_run, write_table

from perception_batch.report import charts
from perception_batch.report.manifest_facts import ManifestFacts, read_manifest
from perception_batch.report.moments import worst_moments
from perception_batch.report.number_text import clock, decimal, duration, percent, utc, whole
from perception_batch.report.run_files import STATUSES, read_run
from perception_batch.report.series import LONGEST_STEP_S, Series, series_of
from perception_batch.report.verdict import BAD, GOOD, LOOK, verdict_of


def test_series_of_a_known_drive(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "drive"))
    series = series_of(run)
    np.testing.assert_allclose(series.seconds, np.arange(15) * 0.2, atol=1e-9)
    np.testing.assert_allclose(series.until[:-1], series.seconds[1:])
    assert series.duration_s == pytest.approx(3.0)
    for step in range(15):
        if step in (4, 5):
            assert np.isnan(series.spread_ms[step])
            assert series.without[step] == 1
        else:
            assert series.spread_ms[step] == pytest.approx(3 + 0.1 * step)
            assert series.without[step] == 0
    np.testing.assert_allclose(series.speed_mps, 10.0)
    np.testing.assert_allclose(series.ego[:, 0], np.arange(15) * 2.0, atol=1e-9)
    assert series.classes == ("car",)
    assert series.per_class[:, 0].tolist() == [1, 1] + [2] * 13
    # Two cameras at 5 Hz; the window is five timesteps (three at the ends), of which two may lack an image.
    complete = np.array([8, 9, 10, 11, 12, 13, 14])
    np.testing.assert_allclose(series.images_per_s[complete], 10.0)
    assert series.images_per_s[4] == pytest.approx((5 * 2 - 2) / 1.0)


def test_a_hole_in_the_drive_is_a_hole_in_the_charts(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "drive", video=False)
    words = ["ok", "ok", "ok", "held", "not_due", "odd word", "undecodable"]
    stamps = [T0 + step * 10**8 for step in range(5)] + [T0 + 10 * 10**9, T0 + 10**14]
    columns = {"timestep": list(range(7)), "stamp_ns": stamps, "time_s": [(s - T0) / 1e9 for s in stamps],
               "camera": ["a"] * 7, "status": words, "offset_ns": [0] * 7}  # fmt: skip
    write_table(directory, "timesteps", columns)
    run = read_run(directory)
    series = series_of(run)
    assert series.until[4] == pytest.approx(series.seconds[4] + 0.3)
    assert series.seconds[5] == pytest.approx(10.0)
    assert series.seconds[6] - series.seconds[5] == pytest.approx(LONGEST_STEP_S)
    assert [STATUSES[s] for s in run.status[:, 0]] == [w.replace("odd word", "missing") for w in words]
    assert np.isnan(series.spread_ms).all()


def made_series(values: list[float], step_s: float = 0.1) -> Series:
    count = len(values)
    seconds = np.arange(count) * step_s
    none, zeros = np.full(count, np.nan), np.zeros(count, np.int64)
    return Series(
        seconds, seconds + step_s, np.array(values, float), zeros, none, np.full((count, 3), np.nan), none, ("car",),
        zeros[:, None], np.zeros(count),
    )  # fmt: skip


@settings(deadline=None)
@given(st.integers(2001, 9000), st.integers(0, 10**6))
def test_columns_lose_no_peak_and_keep_the_mean(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 1, count)
    values[rng.integers(count)] = 50.0
    values[rng.integers(count)] = np.nan
    series = made_series(values.tolist())
    largest = charts.spans_of(series, values, "largest")
    assert len(largest.values) <= 1000
    assert np.nanmax(largest.values) == np.nanmax(values)
    assert largest.begin[0] == 0
    assert largest.end[-1] == pytest.approx(series.duration_s)
    np.testing.assert_allclose(largest.begin[1:], largest.end[:-1])
    smallest = charts.spans_of(series, values, "smallest")
    assert np.nanmin(smallest.values) == np.nanmin(values)
    whole_numbers = np.nan_to_num(values)
    mean = charts.spans_of(series, whole_numbers, "mean")
    assert mean.values.max() <= whole_numbers.max()
    weight = mean.end - mean.begin
    assert (mean.values * weight).sum() / weight.sum() == pytest.approx(whole_numbers.mean())


def covered(path: str) -> float:
    """Area of the outlines of a path of M, V, H and Z, by the shoelace formula."""
    total = 0.0
    for outline in path.split("Z")[:-1]:
        x = y = 0.0
        points = []
        for command, rest in re.findall(r"([MVH])([^MVH]*)", outline):
            numbers = [float(n) for n in rest.split()]
            if command == "M":
                x, y = numbers
            elif command == "V":
                y = numbers[0]
            else:
                x = numbers[0]
            points.append((x, y))
        total += (
            abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, points[1:] + points[:1], strict=True)))
            / 2
        )
    return total


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(0, 10), st.just(float("nan"))), min_size=1, max_size=60))
def test_an_area_covers_what_its_values_say(values: list[float]) -> None:
    series = made_series(values)
    spans = charts.spans_of(series, np.array(values), "largest")
    path = charts.area(spans, series.duration_s, 10.0)
    expected = np.nansum(values) / 10 * charts.HEIGHT * charts.WIDTH / len(values)
    assert covered(path) == pytest.approx(
        expected, abs=0.1 * charts.WIDTH + 0.2 * charts.HEIGHT * len(values)
    )
    line = charts.line(spans, series.duration_s, 10.0)
    known = np.isfinite(values)
    assert line.count("M") == int((known & ~np.append(False, known[:-1])).sum())


def test_the_axis_and_its_upper_ends() -> None:
    assert [s for _, s in charts.axis(10.0)] == list(range(11))
    assert 4 <= len(charts.axis(617.0)) <= 11
    assert charts.axis(0.0) == [(0.0, 0.0)]
    assert [charts.nice_top(v) for v in (0.0, 0.7, 1, 13, 42, 61, 99)] == [1.0, 0.8, 1, 15, 50, 80, 100]


def test_moments_are_the_worst_and_apart(tmp_path: Path) -> None:
    run = read_run(
        write_run(tmp_path / "drive", steps=60, missing=((4, 1), (5, 1), (30, 0), (30, 1)), video=False)
    )
    series = series_of(run)
    moments = worst_moments(run, series)
    lost = [m for m in moments if m.kind == "lost frames"]
    assert [m.step for m in lost] == [4, 30]
    assert "front, back" in lost[1].why
    for kind in {m.kind for m in moments}:
        at = [series.seconds[m.step] for m in moments if m.kind == kind]
        assert len(at) <= 3
        assert all(b - a >= 1.0 - 1e-9 for a, b in itertools.pairwise(at))
    assert 59 in [m.step for m in moments if m.kind == "largest spread"]


def test_steady_offsets_and_no_objects_have_no_worst_moment(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "drive", cameras=("one",), missing=(), found=False))
    assert worst_moments(run, series_of(run)) == []


def facts(tmp_path: Path, **changes: object) -> ManifestFacts:
    return read_manifest(
        write_run(tmp_path / f"run{len(list(tmp_path.iterdir()))}", video=False, missing=(), changes=changes)
    )


def test_verdicts(tmp_path: Path) -> None:
    good = facts(tmp_path)
    assert verdict_of(good).level == GOOD
    assert "no frame was lost" in verdict_of(good).sentence
    lost = facts(tmp_path, losses=[{"count": 4, "reason": "broken_jpeg"}])
    assert verdict_of(lost).level == LOOK
    assert "4\u00a0frames were lost" in verdict_of(lost).sentence
    assert verdict_of(facts(tmp_path, losses=[{"count": 0, "reason": "cut"}])).level == LOOK
    assert verdict_of(facts(tmp_path, status="partial")).level == LOOK
    for status in ("failed", "unfinished", "burnt"):
        assert verdict_of(facts(tmp_path, status=status)).level == BAD
    assert verdict_of(facts(tmp_path, counts={"frames_in_log": 5})).level == BAD
    counts = {"frames_in_log": 60, "timesteps": 30, "timesteps_incomplete": 1, "objects": 9}
    one = verdict_of(facts(tmp_path, counts=counts))
    assert one.level == GOOD
    assert "3.3\u00a0% of the timesteps lack a camera" in one.sentence
    for verdict in (verdict_of(good), verdict_of(lost), one):
        assert verdict.sentence.count(". ") == 0
        assert verdict.sentence.endswith(".")


def test_numbers_as_people_read_them() -> None:
    assert whole(1234567) == "1\u202f234\u202f567"
    assert decimal(-0.04) == "0.0"
    assert decimal(None) == decimal(float("nan")) == "–"
    assert percent(1, 10**6) == "<\u202f0.1\u00a0%"
    assert percent(10**6 - 1, 10**6) == ">\u202f99.9\u00a0%"
    assert percent(1, 0) == "–"
    assert clock(59.96) == "1:00.0"
    assert clock(3723.4) == "1:02:03.4"
    assert clock(-1.5) == "−0:01.5"
    assert duration(7500) == "2\u00a0h 5\u00a0min"
    assert utc(10**18) is not None
    assert utc(5) is utc(1 << 90) is utc("x") is None
