"""What holds for every drive: order, identities, hindsight, and the same answer twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from track.track_scene import RIG, START_NS, Seen, Told, timestep, track

from perception_batch.config import TrackConfig
from perception_batch.ontology import Ontology
from perception_batch.track import open_tracker
from perception_batch.types import TimestepResult

THINGS = st.builds(
    Seen,
    st.tuples(st.floats(-60, 60), st.floats(0.01, 60)),
    st.sampled_from(["car", "truck", "person", "bicycle"]),
    st.floats(0.25, 1.0),
    st.floats(0.001, 0.5),
    st.floats(0, 0.3),
    st.booleans(),
    camera=st.sampled_from(["cam_front", "cam_back", "cam_without_calibration"]),
)
DRIVES = st.lists(st.tuples(st.floats(0.001, 3.0), st.lists(THINGS, max_size=6)), max_size=25)


def drive_of(plan: list[tuple[float, list[Seen]]]) -> list[TimestepResult]:
    stamp, out = START_NS, []
    for index, (seconds, seen) in enumerate(plan):
        stamp += round(seconds * 1e9)
        out.append(timestep(index, seen, stamp_ns=stamp))
    return out


def same(one: TimestepResult, two: TimestepResult) -> bool:
    a, b = one.fusion, two.fusion
    return (
        one.index == two.index
        and a.suppressed == b.suppressed
        and all(np.array_equal(a.object_of[c], b.object_of[c]) for c in b.object_of)
        and len(a.objects) == len(b.objects)
        and all(
            x.track_id == y.track_id
            and x.filled == y.filled
            and x.label == y.label
            and x.score == y.score
            and x.position_m.tobytes() == y.position_m.tobytes()
            and x.covariance_m2.tobytes() == y.covariance_m2.tobytes()
            and x.velocity_mps.tobytes() == y.velocity_mps.tobytes()
            for x, y in zip(a.objects, b.objects, strict=True)
        )
    )


def _unplaced(score: float, camera: str) -> Seen:
    return Seen((0.0, 1.0), "car", score, 0.5, 0.0, False, None, camera)


@example(
    [
        (1.0, [_unplaced(1.0, "cam_front"), _unplaced(0.25, "cam_back")]),
        (1.0, [_unplaced(0.25, "cam_back")] * 2),
    ],
    0.0,
)
@settings(max_examples=40, deadline=None)
@given(DRIVES, st.sampled_from([0.0, 0.3, 1.0, 5.0]))
def test_whatever_comes_goes_out_once_and_in_order(
    plan: list[tuple[float, list[Seen]]], lag_s: float
) -> None:
    drive = drive_of(plan)
    told = track(drive, settings={"lag_s": lag_s})
    assert [r.index for r in told.results] == [r.index for r in drive]
    seen_ids: list[int] = []
    for before, after in zip(drive, told.results, strict=True):
        ids = [o.track_id for o in after.fusion.objects if o.track_id >= 0]
        assert len(ids) == len(set(ids))
        seen_ids += [i for i in ids if i not in seen_ids]
        kept = {o.observations: o for o in after.fusion.objects if not o.filled}
        assert set(kept) <= {o.observations for o in before.fusion.objects}
        numbers = {
            o: n
            for n, item in enumerate(after.fusion.objects)
            for o in [*item.observations][: not item.filled]
        }
        for camera, found in before.detections.items():
            for row in range(len(found)):
                number = int(after.fusion.object_of[camera][row])
                reason = after.fusion.suppressed[camera][row]
                owner = [n for o, n in numbers.items() if (o.camera, o.detection) == (camera, row)]
                assert (owner == [number] and not reason) or (
                    not owner and number == -1 and reason == "ghost"
                )
        for item in after.fusion.objects:
            if item.has_position:
                assert np.isfinite(item.covariance_m2).all()
                assert np.linalg.eigvalsh(item.covariance_m2).min() > 0
    assert seen_ids == list(range(len(seen_ids)))
    assert sorted(s.track_id for s in told.finished) == seen_ids
    for summary in told.finished:
        own = told.of_track(summary.track_id)
        stamps = [told.results[k].stamp_ns for k in own]
        assert (summary.first_stamp_ns, summary.last_stamp_ns) == (min(stamps), max(stamps))
        assert summary.filled == sum(o.filled for o in own.values())
        assert summary.observed == sum(not o.filled for o in own.values())


@settings(max_examples=12, deadline=None)
@given(DRIVES)
def test_the_same_drive_gives_the_same_tracks(plan: list[tuple[float, list[Seen]]]) -> None:
    one, two = track(drive_of(plan)), track(drive_of(plan))
    assert all(same(a, b) for a, b in zip(one.results, two.results, strict=True))
    assert [repr(s) for s in one.finished] == [repr(s) for s in two.finished]


@settings(max_examples=12, deadline=None)
@given(DRIVES, st.integers(0, 24))
def test_asking_for_predictions_changes_nothing(plan: list[tuple[float, list[Seen]]], every: int) -> None:
    drive, plain = drive_of(plan), track(drive_of(plan))
    tracker = open_tracker(RIG, Ontology(), TrackConfig())
    results = []
    for result in drive:
        if result.index >= every:
            tracker.predictions(result.stamp_ns, result.ego)
        results += tracker.push(result)
    results += tracker.flush()
    assert all(same(a, b) for a, b in zip(results, plain.results, strict=True))


def test_nothing_waits_longer_than_the_lag_and_half_of_it() -> None:
    tracker = open_tracker(RIG, Ontology(), TrackConfig(lag_s=1.0))
    waiting = []
    for index in range(100):
        result = timestep(index, [Seen((20.0, 0.0))])
        waiting.append(result.stamp_ns)
        for out in tracker.push(result):
            assert result.stamp_ns - out.stamp_ns >= 1_000_000_000
            waiting.remove(out.stamp_ns)
        assert waiting[-1] - waiting[0] < 1_600_000_000


def test_without_a_lag_everything_comes_at_once() -> None:
    tracker = open_tracker(RIG, Ontology(), TrackConfig(lag_s=0.0))
    for index in range(5):
        (out,) = tracker.push(timestep(index, [Seen((20.0, 0.0))]))
        assert [o.track_id for o in out.fusion.objects] == [0]
    assert tracker.flush() == []


def test_memory_does_not_grow_with_the_drive() -> None:
    told = Told([], open_tracker(RIG, Ontology(), TrackConfig()))
    held = []
    for index in range(600):
        # Every second another car, somewhere else.
        second = index // 10
        told.tracker.push(timestep(index, [Seen((20.0 + 7 * (second % 5), float(second % 3)))]))
        told.finished += told.tracker.take_finished()
        held.append(len(told.tracker._alive) + len(told.tracker._waiting))  # type: ignore[attr-defined]
    assert max(held[300:]) <= max(held[100:300])
    assert len(told.finished) > 20


def test_an_empty_drive_has_no_tracks() -> None:
    assert track([]).results == []
    assert track([timestep(0, [])]).tracks() == [[]]


@pytest.mark.parametrize("lag_s", [0.0, 1.0])
def test_positions_of_odom_far_away_stay_exact(lag_s: float) -> None:
    from perception_batch.geometry import SE3
    from perception_batch.types import EgoPose

    far = np.array([5e6, 5e5, 100.0])

    def ego(stamp_ns: int) -> EgoPose:
        return EgoPose(stamp_ns, "utm", SE3(np.eye(3), far), np.zeros(3), "tf")

    drive = [timestep(k, [Seen((far[0] + 20.0, far[1] + 3.0))], ego=ego) for k in range(20)]
    for item in track(drive, settings={"lag_s": lag_s}).of_track(0).values():
        np.testing.assert_allclose(item.position_m[:2], (20.0, 3.0), atol=1e-3)
