"""Single scenes: what a person would say who is who, where, and whether it is there at all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from track.track_scene import UNCALIBRATED, Seen, timestep, track

from perception_batch.geometry import SE3
from perception_batch.track.lives import Life
from perception_batch.types import EgoPose

RNG = np.random.default_rng(3)


def test_two_cars_that_cross_keep_their_identities() -> None:
    drive = [
        timestep(k, [Seen((20.0 + 0.1 * k, -6.0 + 0.3 * k)), Seen((26.0 - 0.1 * k, 6.0 - 0.3 * k))])
        for k in range(40)
    ]
    told = track(drive)
    assert told.tracks() == [[0, 1]] * 40
    np.testing.assert_allclose(told.of_track(0)[20].velocity_mps[:2], (1.0, 3.0), atol=0.3)


def test_a_gap_is_filled_and_marked() -> None:
    drive = [timestep(k, [] if 20 <= k < 26 else [Seen((30.0, -10.0 + 0.5 * k))]) for k in range(50)]
    told = track(drive)
    items = told.of_track(0)
    assert sorted(items) == list(range(50))
    assert [k for k, item in items.items() if item.filled] == list(range(20, 26))
    for k in range(20, 26):
        assert items[k].observations == ()
        np.testing.assert_allclose(items[k].position_m[:2], (30.0, -10.0 + 0.5 * k), atol=0.5)
    scores = [items[k].score for k in range(19, 26)]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] > 0
    (summary,) = told.finished
    assert (summary.observed, summary.filled, summary.cameras) == (44, 6, ("cam_front",))


def test_a_gap_longer_than_the_lag_is_not_filled_but_bridged() -> None:
    drive = [timestep(k, [] if 30 <= k < 45 else [Seen((30.0, -10.0))]) for k in range(70)]
    told = track(drive)
    assert {i for ids in told.tracks() for i in ids} == {0}
    assert [k for k, ids in enumerate(told.tracks()) if not ids] == list(range(30, 45))


def test_after_too_long_it_is_another_track() -> None:
    drive = [timestep(k, [] if 30 <= k < 60 else [Seen((30.0, -10.0))]) for k in range(90)]
    assert {i for ids in track(drive).tracks() for i in ids} == {0, 1}


@pytest.mark.parametrize("life", [1, 2, 3])
def test_a_ghost_is_removed_and_said_so(life: int) -> None:
    drive = [
        timestep(
            k, [Seen((20.0, 0.0)), *([Seen((40.0, 15.0), "person", 0.4)] if 20 <= k < 20 + life else [])]
        )
        for k in range(50)
    ]
    told = track(drive)
    assert told.tracks() == [[0]] * 50
    fusion = told.results[20].fusion
    assert fusion.suppressed["cam_front"] == ("", "ghost")
    assert fusion.object_of["cam_front"].tolist() == [0, -1]


def test_what_is_unsure_must_last() -> None:
    def seen(k: int) -> list[Seen]:
        return [Seen((20.0, 0.0), score=0.35)] * (k < 15) + [Seen((40.0, 15.0), score=0.35)]

    told = track([timestep(k, seen(k)) for k in range(60)])
    assert len(told.finished) == 1
    first = min(told.of_track(0))
    assert 10 <= first <= 20  # a lag before it had lasted 2.5 s


def test_few_timesteps_ask_for_few_sightings() -> None:
    drive = [timestep(k, [Seen((20.0, 0.0))] if k in (4, 5) else [], rate_hz=2.0) for k in range(12)]
    assert [ids for ids in track(drive).tracks() if ids] == [[0], [0]]


def test_the_class_is_that_of_the_whole_track() -> None:
    drive = [timestep(k, [Seen((30.0, 0.0), "truck" if 8 <= k < 12 else "car")]) for k in range(30)]
    told = track(drive)
    assert {o.label for o in told.of_track(0).values()} == {"car"}
    assert {o.class_id for o in told.of_track(0).values()} == {2}
    assert told.of_track(0)[9].size_lwh_m[0] == pytest.approx(4.61)
    assert told.finished[0].label == "car"


def test_a_person_is_never_taken_for_a_car() -> None:
    drive = [timestep(k, [Seen((20.0, 0.0), "car" if k < 20 else "person")]) for k in range(40)]
    told = track(drive)
    assert told.of_track(0)[5].label == "car"
    assert told.of_track(1)[35].label == "person"


def turning(stamp_ns: int, start_ns: int) -> EgoPose:
    """5 m/s and 0.4 rad/s."""
    t = (stamp_ns - start_ns) * 1e-9
    yaw, r = 0.4 * t, 5.0 / 0.4
    c, s = math.cos(yaw), math.sin(yaw)
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return EgoPose(stamp_ns, "odom", SE3(turn, np.array([r * s, r * (1 - c), 0.0])), np.zeros(3), "tf")


def test_what_stands_while_the_vehicle_turns_stands() -> None:
    start = timestep(0, []).stamp_ns
    drive = [timestep(k, [Seen((25.0, 12.0))], ego=lambda t: turning(t, start)) for k in range(30)]
    told = track(drive)
    for result in told.results[5:]:
        (item,) = result.fusion.objects
        assert np.hypot(*item.velocity_mps[:2]) < 0.3
        assert math.isnan(item.yaw_rad)
        assert result.ego is not None
        place = result.ego.odom_SE3_base.apply(item.position_m)
        np.testing.assert_allclose(place[:2], (25.0, 12.0), atol=0.1)


def test_velocity_is_in_base_axes_and_gives_a_heading() -> None:
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # the vehicle looks along odom's y

    def ego(stamp_ns: int) -> EgoPose:
        return EgoPose(stamp_ns, "odom", SE3(turn, np.zeros(3)), np.zeros(3), "tf")

    drive = [timestep(k, [Seen((3.0, 20.0 + 0.8 * k))], ego=ego) for k in range(30)]
    item = track(drive).of_track(0)[15]
    np.testing.assert_allclose(item.velocity_mps[:2], (8.0, 0.0), atol=0.3)
    assert item.yaw_rad == pytest.approx(0.0, abs=0.05)


def test_without_ego_motion_tracks_live_in_the_base_frame() -> None:
    drive = [timestep(k, [Seen((20.0 + 0.2 * k, 5.0))], ego=lambda _: None) for k in range(30)]
    told = track(drive)
    assert told.tracks() == [[0]] * 30
    item = told.of_track(0)[20]
    np.testing.assert_allclose(item.velocity_mps[:2], (2.0, 0.0), atol=0.5)
    assert math.isnan(item.yaw_rad)  # where it goes against the vehicle is not where it points


@pytest.mark.parametrize("what", ["jump", "frame", "lost"])
def test_tracks_do_not_bridge_a_break_of_the_motion(what: str) -> None:
    def ego(stamp_ns: int, k: int) -> EgoPose | None:
        if what == "lost" and k == 20:
            return None
        place = np.array([1000.0 if what == "jump" and k >= 20 else 0.0, 0.0, 0.0])
        name = "map" if what == "frame" and k >= 20 else "odom"
        return EgoPose(stamp_ns, name, SE3(np.eye(3), place), np.zeros(3), "tf")

    drive = []
    for k in range(40):
        offset = 1000.0 if what == "jump" and k >= 20 else 0.0
        drive.append(timestep(k, [Seen((20.0 + offset, 0.0))], ego=lambda t, k=k: ego(t, k)))
    told = track(drive)
    before = {i for ids in told.tracks()[:20] for i in ids}
    after = {i for ids in told.tracks()[21:] for i in ids}
    assert before == {0}
    assert after
    assert not before & after
    for item in told.of_track(max(after)).values():
        np.testing.assert_allclose(item.position_m[:2], (20.0, 0.0), atol=0.1)


def test_a_box_without_a_place_stays_with_its_track() -> None:
    box = (400.0, 300.0, 560.0, 420.0)
    drive = [timestep(k, [Seen((15.0, 0.0), box=box, placed=not 20 <= k < 25)]) for k in range(40)]
    told = track(drive)
    assert told.tracks() == [[0]] * 40
    np.testing.assert_allclose(told.of_track(0)[22].position_m[:2], (15.0, 0.0), atol=0.3)


def test_a_place_that_is_long_unknown_is_not_claimed() -> None:
    box = (400.0, 300.0, 560.0, 420.0)
    drive = [timestep(k, [Seen((15.0, 0.0), box=box, placed=k < 20)]) for k in range(60)]
    told = track(drive)
    assert told.tracks() == [[0]] * 60
    assert told.of_track(0)[25].has_position
    assert not told.of_track(0)[45].has_position


def test_what_is_half_hidden_keeps_its_track_and_its_place() -> None:
    """Its lower half goes behind a wall: it looks twice as far."""

    def seen(k: int) -> Seen:
        if 20 <= k < 25:
            return Seen((30.0, 0.0), "person", box=(470.0, 300.0, 490.0, 340.0))
        return Seen((15.0, 0.0), "person", box=(470.0, 300.0, 490.0, 380.0))

    told = track([timestep(k, [seen(k)]) for k in range(45)])
    assert told.tracks() == [[0]] * 45
    for item in told.of_track(0).values():
        np.testing.assert_allclose(item.position_m[:2], (15.0, 0.0), atol=1.0)


def test_shared_errors_are_never_averaged_down() -> None:
    """A class taken for ten per cent too tall is ten per cent off in every sighting."""
    drive = [timestep(k, [Seen((33.0, 0.0), own_sigma=0.01, size_sigma=0.1)]) for k in range(100)]
    for item in track(drive).of_track(0).values():
        assert math.sqrt(item.covariance_m2[0, 0]) > 0.1 * 33.0


def test_many_cars_with_noise_are_as_many_tracks() -> None:
    places = [(15.0 + 8 * i, y) for i in range(5) for y in (-8.0, 0.0, 8.0)]
    drive = []
    for k in range(60):
        seen = []
        for x, y in places:
            if RNG.random() > 0.1:
                off = 1 + 0.02 * RNG.standard_normal()
                seen.append(Seen((x * off, y * off)))
        drive.append(timestep(k, seen))
    told = track(drive)
    assert len(told.finished) == len(places)
    for summary in told.finished:
        assert summary.observed + summary.filled >= 58


def test_predictions_are_where_things_will_be() -> None:
    from track.track_scene import RIG

    from perception_batch.config import TrackConfig
    from perception_batch.ontology import Ontology
    from perception_batch.track import open_tracker

    tracker = open_tracker(RIG, Ontology(), TrackConfig())
    for k in range(20):
        tracker.push(timestep(k, [Seen((20.0, -10.0 + 0.5 * k))]))
    coming = timestep(20, [])
    (told,) = tracker.predictions(coming.stamp_ns, coming.ego)
    np.testing.assert_allclose(told.position_m[:2], (20.0, 0.0), atol=0.3)
    np.testing.assert_allclose(told.velocity_mps[:2], (0.0, 5.0), atol=0.5)
    assert told.label == "car"
    assert np.linalg.eigvalsh(told.covariance_m2).min() > 0
    assert tracker.predictions(coming.stamp_ns, None) == ()


def test_without_calibration_tracks_live_in_the_image() -> None:
    def seen(k: int) -> list[Seen]:
        left = 100.0 + 6 * k
        out = [Seen((20.0, 0.0), box=(left, 200, left + 120, 300), placed=False)]
        if k % 7 != 3:
            out.append(
                Seen((20.0, 0.0), "person", box=(700.0 - 4 * k, 200, 740.0 - 4 * k, 320), placed=False)
            )
        if k == 15:
            out.append(Seen((20.0, 0.0), score=0.3, box=(10.0, 10.0, 40.0, 40.0), placed=False))
        return out

    told = track([timestep(k, seen(k), ego=lambda _: None) for k in range(40)], UNCALIBRATED)
    assert told.tracks() == [[0, 1] if k % 7 != 3 else [0] for k in range(40)]
    assert not any(o.has_position for r in told.results for o in r.fusion.objects)
    assert told.results[15].fusion.suppressed["cam_front"][-1] == "ghost"
    assert [s.label for s in told.finished] == ["car", "person"]
    assert math.isnan(told.finished[0].min_distance_m)


def test_a_gap_is_between_two_sightings() -> None:
    life = Life(0, "vehicle", 10, seen_ns=[10, 20, 50])
    assert life.gap_at(30) == (20, 50)
    assert life.gap_at(5) is None
    assert life.gap_at(60) is None
    life.forget_before(45)
    assert life.seen_ns == [20, 50]
