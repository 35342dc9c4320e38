"""What is hidden below looks too far away, and what the image's border cuts below is near."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from track.track_scene import CAMERA, RIG, Seen, timestep, track

from perception_batch.geometry import SE3
from perception_batch.track.close_by import close_by
from perception_batch.track.hiding import hidden_below
from perception_batch.track.shown import shown
from perception_batch.types import Detections, FusedObject


def hidden(
    objects: Sequence[FusedObject], boxes: Mapping[str, npt.NDArray[np.float32]]
) -> npt.NDArray[np.bool_]:
    object_of = {camera: np.full(len(found), -1, np.int32) for camera, found in boxes.items()}
    for number, item in enumerate(objects):
        for o in item.observations:
            object_of[o.camera][o.detection] = number
    return hidden_below(shown(boxes, object_of, {}), len(objects))


NUMBER = st.integers(0, 40).map(float)


@given(st.lists(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER), min_size=1, max_size=8))
def test_hidden_below_as_an_eye_would_say(corners: list[tuple[float, float, float, float]]) -> None:
    boxes = [(x, y, x + 1 + w, y + 1 + h) for x, y, w, h in corners]
    seen = [Seen((20.0, 0.0), box=box) for box in boxes]
    result = timestep(0, seen)
    found = hidden(result.fusion.objects, {CAMERA: result.detections[CAMERA].xyxy})
    for i, (left, high, right, low) in enumerate(boxes):
        expected = False
        for x1, y1, x2, y2 in boxes:
            shared = min(right, x2) - max(left, x1)
            if y1 < low and y2 > low + 0.02 * (low - high) and shared >= 0.95 * (right - left):
                expected = True
        assert found[i] == expected


def test_a_camera_that_sees_the_feet_is_believed() -> None:
    result = timestep(0, [Seen((20.0, 0.0), box=(10, 10, 20, 20)), Seen((9.0, 0.0), box=(5, 5, 30, 40))])
    first, second = result.fusion.objects
    other = Seen((20.0, 0.0), box=(10, 10, 20, 20), camera="cam_back")
    again = timestep(0, [other]).fusion.objects[0]
    both = replace(first, observations=(*again.observations, *first.observations))
    boxes = {CAMERA: result.detections[CAMERA].xyxy, "cam_back": np.array([[10, 10, 20, 20]], np.float32)}
    assert hidden([first, second], boxes).tolist() == [True, False]
    assert hidden([both, second], boxes).tolist() == [False, False]
    assert hidden([], {}).tolist() == []


def test_who_steps_out_from_behind_a_car_was_there_before() -> None:
    """Head and shoulders first, which look 2.7 times as far away; then all of a person."""

    def seen(k: int) -> list[Seen]:
        car = Seen((10.0, 0.0), box=(380.0, 320.0, 580.0, 420.0))
        if k < 10:
            return [car, Seen((40.0, 0.0), "person", own_sigma=0.05, box=(490.0, 300.0, 505.0, 321.0))]
        return [car, Seen((15.0, 0.0), "person", own_sigma=0.05, box=(480.0, 300.0, 520.0, 390.0))]

    assert track([timestep(k, seen(k)) for k in range(40)]).tracks() == [[0, 1]] * 40


def test_what_the_border_cuts_below_stays_where_it_is() -> None:
    """A bicycle comes near and stays, its wheels below the image for four seconds."""
    box = (400.0, 260.0, 560.0, 600.0)
    drive = [
        timestep(
            k,
            [Seen((max(4.0, 10.0 - 0.3 * k), 0.0), "bicycle", box=box if k >= 20 else None, placed=k < 20)],
        )
        for k in range(60)
    ]
    told = track(drive)
    assert told.tracks() == [[0]] * 60
    for k in range(20, 60):
        item = told.of_track(0)[k]
        assert item.has_position
        apart = item.position_m[:2] - (4.0, 0.0)
        assert math.hypot(*apart) < 1.5
        assert apart @ np.linalg.inv(item.covariance_m2[:2, :2]) @ apart < 9.2


def test_what_may_be_far_is_not_close_by() -> None:
    def told(box: tuple[float, float, float, float]) -> object:
        result = timestep(0, [Seen((4.0, 0.0), "bicycle", box=box, placed=False)])
        (item,) = result.fusion.objects
        found: Detections = result.detections[CAMERA]
        boxes = {CAMERA: found.xyxy}
        return close_by(item.observations, 0.0, boxes, RIG.cameras, SE3.identity())

    assert told((400.0, 260.0, 560.0, 600.0)) is not None
    assert told((400.0, 260.0, 560.0, 500.0)) is None  # its wheels show
    result = timestep(0, [Seen((4.0, 0.0), "bicycle", box=(400.0, 260.0, 560.0, 600.0), placed=False)])
    boxes = {CAMERA: result.detections[CAMERA].xyxy}
    seen = result.fusion.objects[0].observations
    assert close_by(seen, 0.0, boxes, {}, SE3.identity()) is None
    assert close_by(seen, math.nan, boxes, RIG.cameras, SE3.identity()) is None  # of a size unknown
