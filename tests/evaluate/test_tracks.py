"""Identities of made tracks, whose answer is known, and IDF1 by trying every assignment."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from evaluate.made import (
    CAR,
    CLASSES,
    STEP,
    T0,
    run_of,
    run_picture,
    run_step,
    truth_frame,
    truth_of,
    truth_picture,
)

from perception_batch.evaluate.pairing import pair
from perception_batch.evaluate.report import Skipped, TrackFigures
from perception_batch.evaluate.settings import EvaluateSettings
from perception_batch.evaluate.tracks import score_tracks

SETTINGS = EvaluateSettings()
ASKED = frozenset({CAR})


def box(k: int) -> list[float]:
    return [100.0 * k, 0.0, 100.0 * k + 60, 60.0]


def scored(
    tracks: list[dict[int, int]],
    *,
    truth_count: int = 2,
    positions: bool = True,
    hidden: tuple[int, ...] = (),
) -> TrackFigures | Skipped:
    """By timestep, from place to track id. Truth object k stands in place k, 10 m ahead and 8 m beside the next."""
    frames, pictures, steps = [], [], []
    for i, step in enumerate(tracks):
        frames.append(
            truth_frame(T0 + i * STEP, {k: (CAR, [10, 8 * k, 0]) for k in range(truth_count)})
            if positions
            else truth_frame(T0 + i * STEP, {k: (CAR, [np.nan] * 3) for k in range(truth_count)})
        )
        seen = [(k, CAR, box(k)) for k in range(truth_count)]
        pictures.append(
            truth_picture(i, "a", seen, visible=[0.05 if k in hidden else 1.0 for k in range(truth_count)])
        )
        rows = [(box(k), 0.9, CAR, n) for n, k in enumerate(step)]
        objects = [
            (n, track, CAR, [10.3, 8 * k, 0] if positions else [np.nan] * 3)
            for n, (k, track) in enumerate(step.items())
        ]
        steps.append(run_step(i, [run_picture("a", T0 + i * STEP, rows)], objects))
    truth, run = truth_of(frames, pictures, knows_pictures=True), run_of(steps, ["a"])
    return score_tracks(
        pair(run, truth, CLASSES, SETTINGS),
        truth,
        CLASSES,
        SETTINGS,
        ASKED,
        has_tracks=run.has_tracks,
        has_positions=run.has_positions,
    )


def figures(tracks: list[dict[int, int]], **how: object) -> TrackFigures:
    found = scored(tracks, **how)  # type: ignore[arg-type]
    assert isinstance(found, TrackFigures)
    return found


@pytest.mark.parametrize("positions", [True, False])
def test_perfect_tracks(positions: bool) -> None:
    found = figures([{0: 5, 1: 9}] * 6, positions=positions)
    assert (found.idf1, found.mota, found.id_switches, found.misses) == (1, 1, 0, 0)
    assert found.space == ("ground" if positions else "image")


@pytest.mark.parametrize("positions", [True, False])
def test_an_id_that_changes_half_way(positions: bool) -> None:
    found = figures([{0: 5, 1: 9}] * 5 + [{0: 6, 1: 9}] * 5, positions=positions)
    assert found.id_switches == 1
    assert found.idf1 == pytest.approx(15 / 20)
    assert found.mota == pytest.approx(1 - 1 / 20)


def test_false_tracks_and_misses() -> None:
    found = figures([{0: 5, 3: 8}] * 4)
    assert (found.misses, found.false_positives) == (4, 4)
    assert found.mota == pytest.approx(0.0)
    assert found.idf1 == pytest.approx(0.5)


def test_a_track_on_an_object_that_does_not_count_is_no_mistake() -> None:
    found = figures([{0: 5, 1: 9}] * 4, hidden=(1,))
    assert (found.truth_rows, found.false_positives, found.idf1) == (4, 0, 1)


def beside(range_m: float, off_m: float, hidden_off_m: float | None = None) -> TrackFigures | Skipped:
    """One truth object ahead, a track beside it; where given, a hidden truth object beside it as well."""
    frames, pictures, steps = [], [], []
    for i in range(4):
        objects = {0: (CAR, [range_m, 0, 0])}
        if hidden_off_m is not None:
            objects[1] = (CAR, [range_m, hidden_off_m, 0])
        frames.append(truth_frame(T0 + i * STEP, objects))
        pictures.append(truth_picture(i, "a", [(0, CAR, box(0))]))
        steps.append(run_step(i, [run_picture("a", T0 + i * STEP, [])], [(0, 5, CAR, [range_m, off_m, 0])]))
    truth, run = truth_of(frames, pictures, knows_pictures=True), run_of(steps, ["a"])
    return score_tracks(
        pair(run, truth, CLASSES, SETTINGS),
        truth,
        CLASSES,
        SETTINGS,
        ASKED,
        has_tracks=True,
        has_positions=True,
    )


@pytest.mark.parametrize(
    ("range_m", "off_m", "idf1"), [(10, 1.9, 1), (10, 2.1, 0), (30, 2.9, 1), (30, 3.1, 0), (5, 1.9, 1)]
)
def test_how_near_a_track_must_be(range_m: float, off_m: float, idf1: float) -> None:
    found = beside(range_m, off_m)
    assert isinstance(found, TrackFigures)
    assert found.idf1 == idf1


def test_a_hidden_neighbour_takes_no_track_from_who_counts() -> None:
    found = beside(10, 1.5, hidden_off_m=1.6)
    assert isinstance(found, TrackFigures)
    assert (found.idf1, found.misses) == (1, 0)


def test_tracks_beyond_the_range_are_not_false() -> None:
    frames = [truth_frame(T0 + i * STEP, {0: (CAR, [10, 0, 0])}) for i in range(4)]
    pictures = [truth_picture(i, "a", [(0, CAR, box(0))]) for i in range(4)]
    objects = [(0, 5, CAR, [10, 0, 0]), (1, 6, CAR, [70, 0, 0]), (2, 7, CAR, [0, 30, 0])]
    run = run_of([run_step(i, [run_picture("a", T0 + i * STEP, [])], objects) for i in range(4)], ["a"])
    truth = truth_of(frames, pictures, knows_pictures=True)
    found = score_tracks(
        pair(run, truth, CLASSES, SETTINGS),
        truth,
        CLASSES,
        SETTINGS,
        ASKED,
        has_tracks=True,
        has_positions=True,
    )
    assert isinstance(found, TrackFigures)
    assert found.false_positives == 4  # the one at 30 m


def test_without_tracks_or_with_one_timestep_it_says_so() -> None:
    assert scored([{0: -1, 1: -1}] * 3) == Skipped("the objects of the run carry no track_id")
    assert isinstance(scored([{0: 5, 1: 9}]), Skipped)


@pytest.mark.parametrize("seed", range(15))
def test_idf1_equals_the_best_of_all_assignments(seed: int) -> None:
    rng = np.random.default_rng(seed)
    places, ids = 3, [4, 7, 8, 9]
    tracks = []
    for _ in range(8):
        used = rng.permutation(ids)
        tracks.append({k: int(used[k]) for k in range(places + 1) if rng.random() < 0.7})
    found = scored(tracks, truth_count=places)
    if isinstance(found, Skipped):
        pytest.skip("an empty draw")
    hits = {(k, t): sum(step.get(k) == t for step in tracks) for k in range(places) for t in ids}
    best = max(sum(hits[k, t] for k, t in enumerate(choice)) for choice in permutations(ids, places))
    truth_rows, track_rows = places * len(tracks), sum(len(step) for step in tracks)
    assert found.idf1 == pytest.approx(2 * best / (truth_rows + track_rows))
