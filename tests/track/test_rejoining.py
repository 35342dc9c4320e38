"""What is hidden for a while and comes out again: who it was is known, whatever its first corner looked like."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from track.track_scene import START_NS, Seen, timestep, track

from perception_batch.track import following, matching
from perception_batch.track.lives import Life
from perception_batch.track.rejoining import may_rejoin
from perception_batch.track.sighting import Sightings, Views, turned
from perception_batch.types import TimestepResult


def car(left_m: float, right_m: float, range_m: float = 25.0) -> Seen:
    """The part of a car across the line of sight that shows, placed at that part's middle."""
    ahead = range_m - 1.5
    middle = 0.5 * (left_m + right_m)
    box = (480 - 700 * left_m / ahead, 300.0, 480 - 700 * right_m / ahead, 300 + 700 * 1.5 / ahead)
    return Seen((range_m, middle), box=box)


def test_both_ends_of_a_thing_behind_a_pillar_are_one_thing() -> None:
    """A car of 4.6 m, hidden but for its left end, then wholly, then but for its right end."""
    drive = []
    for k in range(60):
        if k < 20 or k >= 40:
            drive.append(timestep(k, [car(2.3, -2.3)]))
        elif 25 <= k < 29:
            drive.append(timestep(k, []))
        else:
            drive.append(timestep(k, [car(2.3, 1.5) if k < 25 else car(-1.5, -2.3)]))
    told = track(drive)
    assert {i for ids in told.tracks() for i in ids} == {0}
    for k, item in told.of_track(0).items():
        assert abs(float(item.position_m[1])) < (1.2 if 20 <= k < 40 else 0.6)
        assert np.hypot(*item.velocity_mps[:2]) < 3.0


def reappearing(k: int) -> list[Seen]:
    """Gone for 0.6 s, and then a second in which it seems to come from beside."""
    if k < 30:
        return [car(1.0, -1.0)]
    beside = max(0.0, 2.0 - 0.2 * (k - 36))
    return [] if k < 36 else [car(1.0 + beside, -1.0 + beside)]


def test_a_young_track_that_goes_on_where_one_was_lost_is_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    drive = [timestep(k, reappearing(k)) for k in range(70)]
    told = track(drive)
    assert {i for ids in told.tracks() for i in ids} == {0}
    (summary,) = told.finished
    assert (summary.track_id, summary.first_stamp_ns, summary.last_stamp_ns) == (
        0,
        START_NS,
        START_NS + 6_900_000_000,
    )
    assert summary.observed == sum(len(reappearing(k)) for k in range(70))
    monkeypatch.setattr(following, "rejoin", lambda *_: [])
    without = track(drive)
    assert {i for ids in without.tracks() for i in ids} == {0, 1}


def test_two_that_were_there_together_are_never_one() -> None:
    drive = [timestep(k, [car(1.0, -1.0)] * (k < 40) + [car(3.5, 1.8)] * (k >= 38)) for k in range(80)]
    told = track(drive)
    assert {i for ids in told.tracks() for i in ids} == {0, 1}
    assert sorted(s.track_id for s in told.finished) == [0, 1]


@pytest.mark.parametrize(
    ("verdict", "unseen_ns", "expected"), [("real", 5, True), ("real", 11, False), ("ghost", 5, False)]
)
def test_only_what_was_real_and_seen_lately_goes_on(verdict: str, unseen_ns: int, expected: bool) -> None:
    life = Life(0, "vehicle", 100, verdict=verdict, seen_ns=[100])  # type: ignore[arg-type]
    assert may_rejoin(life, 100 + unseen_ns, 10) is expected
    Life(1, "vehicle", 105, votes={"car": 1.0}).continue_from(life)
    assert not may_rejoin(life, 101, 10)


def test_of_two_tracks_at_one_place_the_surer_one_is_seen() -> None:
    """Else one that was lost long ago, and may be anywhere, would be as good a guess for everything."""
    place = np.array([[20.0, 20.0], [3.0, 3.0]])
    views = Views.of(place, np.zeros((2, 1)))
    cover = turned(views.slope, np.array([[0.1, 30.0], [0.0, 0.0], [0.1, 30.0]]))
    none, noise = np.zeros(2), np.array([[0.03**2], [0.0], [0.005**2]])
    seen = Sightings.none(1)
    seen.polar[:], seen.noise[:] = views.polar[:, :1] + [[0.01], [0.002]], noise
    expected = matching.Expected(views.polar, cover, none, none.astype(int), none.astype(int))
    both, only = np.array([0, 1]), np.zeros(2, int)
    distance2, room, _ = matching.distances2(expected, seen, np.zeros(1), both, only)
    assert distance2[0] > distance2[1]
    assert (distance2 + room)[0] < (distance2 + room)[1]


COMINGS = st.lists(
    st.tuples(
        st.floats(12, 45),  # range, m
        st.floats(-1.5, 1.5),  # where across, m
        st.lists(st.tuples(st.integers(3, 25), st.integers(1, 32)), min_size=1, max_size=4),  # seen, then not
        st.floats(-2.5, 2.5),  # how far beside it seems when it comes out
    ),
    min_size=1,
    max_size=3,
)


def hide_and_seek(
    comings: list[tuple[float, float, list[tuple[int, int]], float]],
) -> list[TimestepResult]:
    """Timesteps at 10 Hz in which things are seen and hidden by turns."""
    drive: dict[int, list[Seen]] = {}
    for range_m, across_m, turns, beside_m in comings:
        k = 0
        for turn, (seen, hidden) in enumerate(turns):
            for age in range(seen):
                off = across_m + beside_m * (max(0.0, 1 - age / 10) if turn else 0.0)
                drive.setdefault(k, []).append(car(off + 1.0, off - 1.0, range_m))
                k += 1
            k += hidden
    return [timestep(k, drive.get(k, [])) for k in range(max(drive) + 1)]


@settings(max_examples=60, deadline=None)
@given(COMINGS, st.sampled_from([0.5, 1.0]))
def test_a_track_is_summed_up_once_whoever_goes_on_in_whom(
    comings: list[tuple[float, float, list[tuple[int, int]], float]], lag_s: float
) -> None:
    drive = hide_and_seek(comings)
    told = track(drive, settings={"lag_s": lag_s})
    given_out = {i for ids in told.tracks() for i in ids if i >= 0}
    assert sorted(s.track_id for s in told.finished) == sorted(given_out)
    for summary in told.finished:
        own = told.of_track(summary.track_id)
        stamps = [told.results[k].stamp_ns for k in own]
        assert (summary.first_stamp_ns, summary.last_stamp_ns) == (min(stamps), max(stamps))
        assert summary.observed == sum(not o.filled for o in own.values())
        assert summary.filled == sum(o.filled for o in own.values())


def test_a_track_that_goes_on_long_after_is_summed_up_once() -> None:
    """Longer than the lag: all that was known of it had been given out."""
    drive = hide_and_seek([(25.0, 0.0, [(30, 20), (30, 1)], 2.0)])
    told = track(drive)
    assert {i for ids in told.tracks() for i in ids} == {0}
    (summary,) = told.finished
    assert (summary.first_stamp_ns, summary.last_stamp_ns) == (drive[0].stamp_ns, drive[-1].stamp_ns)
