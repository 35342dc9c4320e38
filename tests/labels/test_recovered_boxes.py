"""Boxes that hindsight puts into a track's gap, and boxes of the own vehicle: from arrays, without a run."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from perception_batch.labels.label_settings import LabelSettings, PerClass
from perception_batch.labels.run_rows import REASONS, BoxRows, FrameRows, Stretch, TrackRows
from perception_batch.labels.scored_boxes import ACCEPTED, DROPPED, IGNORED, OWN_VEHICLE, ScoredBoxes
from perception_batch.labels.scoring import RunFacts, score_stretch
from perception_batch.labels.track_evidence import TrackEvidence

WIDTH, HEIGHT, FRAMES = 640, 400, 41
STEP_NS = 100_000_000
LOW_SCORE, EGO_MASK = REASONS.index("low_score"), REASONS.index("ego_mask")
SETTINGS = LabelSettings()


@dataclass(frozen=True)
class Row:
    """One detection."""

    timestep: int
    xyxy: tuple[float, float, float, float]
    score: float = 0.6
    track: int = 0
    aside: int = 0


def passing_car(lost: range = range(0), size: tuple[float, float] = (60, 40), **changes: object) -> list[Row]:
    """A car that goes from left to right, 2 px a frame, without the frames `lost`."""
    w, h = size
    rows = [Row(t, (100 + 2.0 * t, 150, 100 + 2.0 * t + w, 150 + h)) for t in range(FRAMES) if t not in lost]
    return [replace(row, **changes) for row in rows]  # type: ignore[arg-type]


def scored(
    rows: list[Row], path_m: float = 0.0, settings: LabelSettings = SETTINGS, share: float = 1.0
) -> ScoredBoxes:
    """All boxes of one camera's frames; the vehicle goes `path_m` in each of them."""
    rows = sorted(rows, key=lambda row: (row.timestep, -row.score))
    step = np.array([row.timestep for row in rows], np.int64)
    number = np.array([sum(r.timestep == row.timestep for r in rows[:i]) for i, row in enumerate(rows)])
    track = np.array([row.track for row in rows], np.int64)
    zeros = np.zeros(len(rows), np.int64)
    aside = np.array([row.aside for row in rows], np.int64)
    boxes = BoxRows(
        step, zeros, step * STEP_NS, number.astype(np.int64), np.array([row.xyxy for row in rows], float),
        np.array([row.score for row in rows]), zeros, np.where(track < 0, -1, track), track, aside,
    )  # fmt: skip
    every, still = np.arange(FRAMES), np.zeros(FRAMES, np.int64)
    frames = FrameRows(every, still, every * STEP_NS, still + WIDTH, still + HEIGHT)
    count = int(track.max(initial=0)) + 1
    tracks = TrackRows(
        ("car",) * count, np.zeros(count, np.int64), np.full(count, FRAMES), np.zeros(count, np.int64), np.full(count, 4.0)
    )  # fmt: skip
    evidence = TrackEvidence(
        tracks, np.zeros(count, np.int64), np.full(count, share), ({0: share},) * count, np.zeros(count), np.full(count, np.nan)
    )  # fmt: skip
    places = np.stack([np.arange(FRAMES) * path_m, np.zeros(FRAMES), np.zeros(FRAMES)], axis=1)
    facts = RunFacts(evidence, np.zeros(1, np.int64), ("car",), (every * STEP_NS, places))
    return score_stretch(Stretch(0, 256, frames, boxes), facts, settings)


def test_a_short_gap_in_the_open_is_filled_where_the_car_was() -> None:
    found = scored(passing_car(range(20, 21), score=0.5))
    made = found.rows(found.recovered)
    assert made.timestep.tolist() == [20]
    assert made.xyxy[0] == pytest.approx([140, 150, 200, 190])
    assert made.track.tolist() == [0]
    assert made.band.tolist() == [ACCEPTED]
    assert np.isnan(made.score[0])
    assert len(found) == FRAMES


def test_what_speaks_for_something_in_between_costs_quality() -> None:
    gap = range(20, 22)
    plain = passing_car(gap, score=0.5)

    def quality(rows: list[Row]) -> float:
        found = scored(rows)
        made = found.rows(found.recovered)
        assert len(made) == 2
        return float(made.quality.min())

    open_road = quality(plain)
    # another box covers most of the place
    before = [Row(t, (120, 140, 185, 240), 0.9, 1) for t in range(FRAMES)]
    assert quality(plain + before) < open_road - 0.1
    # the car is seen in part just before it is lost
    cut = [replace(r, xyxy=(r.xyxy[0], 150, r.xyxy[0] + 20, 190)) if r.timestep == 19 else r for r in plain]
    assert quality(cut) < open_road - 0.2
    # a detector that was sure on both sides does not lose it without cause
    assert quality([replace(r, score=0.9) for r in plain]) < open_road - 0.05
    # and a longer gap is less sure
    longer = scored(passing_car(range(17, 25), score=0.5))
    assert longer.quality[longer.recovered].max() < open_road - 0.05


def test_the_doubtful_are_regions_to_ignore_and_the_worse_are_dropped() -> None:
    car = passing_car(range(17, 25))
    found = scored(car)
    bands = found.band[found.recovered]
    assert (bands == IGNORED).all()
    found = scored(car, share=0.3)
    assert (found.band[found.recovered] == DROPPED).all()


def test_doubt_about_the_class_is_doubt_about_the_filled_box() -> None:
    sure = scored(passing_car(range(20, 21), score=0.5))
    half = scored(passing_car(range(20, 21), score=0.5), share=0.5)
    assert half.quality[half.recovered] == pytest.approx(0.5 * sure.quality[sure.recovered])


def test_what_is_not_filled() -> None:
    for chosen, lost in (
        (replace(SETTINGS, recover=False), range(20, 21)),
        (replace(SETTINGS, max_gap_s=0.0), range(20, 21)),
        (SETTINGS, range(15, 26)),
        (replace(SETTINGS, max_gap_s=0.15), range(20, 21)),
    ):
        assert not scored(passing_car(lost), settings=chosen).recovered.any()
    # another track has the box already
    there = [Row(20, (141, 150, 201, 190), 0.9, 1)]
    assert not scored(passing_car(range(20, 21)) + there).recovered.any()


def test_a_weak_detection_in_the_gap_joins_the_track() -> None:
    weak = Row(20, (141, 151, 201, 191), 0.1, -1, LOW_SCORE)
    found = scored([*passing_car(range(20, 21), score=0.95), weak])
    assert not found.recovered.any()
    here = found.rows(found.timestep == 20)
    assert here.track.tolist() == [0]
    assert here.why.tolist() == [0]
    assert here.score.tolist() == [pytest.approx(0.1)]
    elsewhere = scored([*passing_car(range(20, 21)), replace(weak, xyxy=(400, 150, 460, 190))])
    assert elsewhere.recovered.sum() == 1


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 39).flatmap(lambda a: st.tuples(st.just(a), st.integers(a, min(39, a + 8)))),
    st.floats(0.05, 0.99),
    st.floats(0.05, 1.0),
    st.floats(2, 200),
)
def test_quality_is_a_probability_and_boxes_are_between_their_ends(
    lost: tuple[int, int], score: float, share: float, width: float
) -> None:
    found = scored(passing_car(range(lost[0], lost[1] + 1), size=(width, width), score=score), share=share)
    made = found.rows(found.recovered)
    assert len(made) == lost[1] + 1 - lost[0]
    assert ((made.quality > 0) & (made.quality <= share)).all()
    assert made.xyxy[:, 0] == pytest.approx(100 + 2.0 * made.timestep)


def bonnet(**changes: object) -> list[Row]:
    rows = [Row(t, (200, 340, 440, HEIGHT), 0.95, 1) for t in range(FRAMES)]
    return [replace(row, **changes) for row in rows]  # type: ignore[arg-type]


def test_boxes_of_the_own_vehicle_are_no_labels() -> None:
    driving = scored(bonnet() + passing_car(), path_m=1.0)
    own = driving.track == 1
    assert (driving.why[own] == OWN_VEHICLE).all()
    assert (driving.band[own] == IGNORED).all()
    assert (driving.band[~own] == ACCEPTED).all()


def test_a_car_close_ahead_in_a_jam_is_a_label() -> None:
    """The same boxes while the vehicle stands: nothing tells them from a car."""
    assert (scored(bonnet()).band == ACCEPTED).all()
    above = scored(bonnet(xyxy=(200.0, 240.0, 440.0, 300.0)), path_m=1.0)  # one that is followed at its pace
    assert (above.band == ACCEPTED).all()


def test_boxes_in_an_ego_mask_are_dropped_whatever_their_score() -> None:
    easy = replace(SETTINGS, accept=PerClass(0.0), ignore=PerClass(0.0), sure_score=0.0)
    found = scored(bonnet(aside=EGO_MASK, track=-1), settings=easy)
    assert (found.band == DROPPED).all()
