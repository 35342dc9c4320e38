"""Boxes of several cameras become objects: merges, exclusivity, order."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest
from fusion.fuse_scene import LABELS, ONTOLOGY, Seen, Thing, detections_of, pinhole, pose, ring, see
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from perception_batch.calibration import Camera, Rig
from perception_batch.config import FuseConfig
from perception_batch.fusion import open_fuser
from perception_batch.fusion.overlap import overlapping
from perception_batch.types import Detections, Fusion, Observation


def fuse(rig: Rig, seen: Seen, settings: FuseConfig | None = None, **kwargs: Any) -> Fusion:
    fuser = open_fuser(rig, ONTOLOGY, LABELS, settings or FuseConfig())
    return fuser.fuse(seen.detections, seen.image_hw, seen.poses, **kwargs)


def merges(seen: Seen, fusion: Fusion) -> tuple[int, int, int]:
    """Right pairs, wrong pairs, missed pairs; by brute force over all pairs of boxes."""
    boxes = [(c, i, n) for c, owners in seen.truth.items() for i, n in enumerate(owners)]
    right = wrong = missed = 0
    for (c, i, n), (d, j, m) in itertools.combinations(boxes, 2):
        together = fusion.object_of[c][i] == fusion.object_of[d][j] >= 0
        right += together and n == m
        wrong += together and n != m
        missed += not together and n == m and fusion.object_of[c][i] >= 0 and fusion.object_of[d][j] >= 0
    return right, wrong, missed


def check(seen_detections: dict[str, Detections], fusion: Fusion) -> None:
    """What holds for every fusion."""
    taken = set()
    for number, item in enumerate(fusion.objects):
        cameras = [o.camera for o in item.observations]
        assert cameras == sorted(set(cameras))
        assert cameras
        for o in item.observations:
            assert (o.camera, o.detection) not in taken
            taken.add((o.camera, o.detection))
            assert fusion.object_of[o.camera][o.detection] == number
            assert fusion.suppressed[o.camera][o.detection] == ""
    assert set(fusion.object_of) == set(fusion.suppressed) == set(seen_detections)
    for camera, found in seen_detections.items():
        assert fusion.object_of[camera].shape == (len(found),)
        assert fusion.object_of[camera].dtype == np.int32
        for i, reason in enumerate(fusion.suppressed[camera]):
            assert ((camera, i) in taken) == (reason == "") == (fusion.object_of[camera][i] >= 0)
    keys = [(-o.score, o.observations[0].camera, o.observations[0].detection) for o in fusion.objects]
    assert keys == sorted(keys)


def test_car_in_the_overlap_of_two_cameras_is_one_object() -> None:
    a = math.radians(29)
    rig, thing = ring(), Thing.standing("car", 25 * math.cos(a), 25 * math.sin(a))
    seen = see([thing], rig)
    assert sum(map(len, seen.detections.values())) == 2
    (found,) = fuse(rig, seen).objects
    assert [o.camera for o in found.observations] == ["cam_front", "cam_front_left"]
    assert found.score == pytest.approx(1 - 0.2 * 0.2)
    assert np.linalg.norm(found.position_m[:2] - thing.center_m[:2]) < 2


@pytest.mark.parametrize("length", [7.0, 10.0, 12.0, 16.0])
def test_lorry_cut_by_the_borders_of_two_cameras_is_one_object(length: float) -> None:
    rig = ring()
    thing = Thing.standing("truck", 14.0, 9.0, 0.2, size=(length, 2.6, 3.4))
    seen = see([thing], rig)
    assert sum(map(len, seen.detections.values())) >= 2
    fusion = fuse(rig, seen)
    assert len(fusion.objects) == 1
    check(seen.detections, fusion)


def test_car_in_one_camera_and_truck_in_the_next_are_one_and_the_stronger_class_wins() -> None:
    a = math.radians(29)
    rig = ring()
    seen = see([Thing.standing("car", 20 * math.cos(a), 20 * math.sin(a))], rig)
    box = seen.detections["cam_front"].xyxy[0], seen.detections["cam_front_left"].xyxy[0]
    seen.detections["cam_front"] = detections_of([("car", 0.8, box[0])])
    seen.detections["cam_front_left"] = detections_of([("truck", 0.5, box[1])])
    (found,) = fuse(rig, seen).objects
    assert (found.label, found.class_id) == ("car", 2)
    # A weaker truck box on the same car in the first camera is evidence too.
    seen.detections["cam_front"] = detections_of([("car", 0.8, box[0]), ("truck", 0.45, box[0])])
    fusion = fuse(rig, seen)
    assert fusion.suppressed["cam_front"] == ("", "duplicate")
    assert [o.label for o in fusion.objects] == ["truck"]
    assert fusion.objects[0].observations == (Observation("cam_front", 0), Observation("cam_front_left", 0))
    assert fusion.objects[0].score == pytest.approx(1 - 0.2 * 0.5)


def test_person_and_car_at_one_place_stay_two() -> None:
    a = math.radians(29)
    rig = ring()
    seen = see([Thing.standing("person", 20 * math.cos(a), 20 * math.sin(a))], rig)
    box = seen.detections["cam_front_left"].xyxy[0]
    seen.detections["cam_front_left"] = detections_of([("car", 0.7, box)])
    assert len(fuse(rig, seen).objects) == 2


def test_two_boxes_of_one_camera_never_merge() -> None:
    """Two persons arm in arm, both seen by two cameras, boxes swapped in strength: two objects of two."""
    a, rig = math.radians(29), ring()
    x, y = 15 * math.cos(a), 15 * math.sin(a)
    things = [Thing.standing("person", x, y), Thing.standing("person", x + 0.35, y - 0.7)]
    seen = see(things, rig)
    seen.detections["cam_front"] = detections_of(
        [("person", 0.9, seen.detections["cam_front"].xyxy[k]) for k in (1, 0)]
    )
    seen.truth["cam_front"] = seen.truth["cam_front"][::-1]
    fusion = fuse(rig, seen)
    assert merges(seen, fusion) == (2, 0, 0)
    assert len(fusion.objects) == 2


def test_bearing_only_box_joins_the_view_that_knows_the_range() -> None:
    """A tele camera nested in a wide one sees only the middle of a near car: top, bottom and sides cut."""
    tele = Camera("tele", pinhole(f=5000), pose(1.7, 0, 1.4, 0), "drawn")
    wide = Camera("wide", pinhole(f=800), pose(1.7, 0.2, 1.4, 0), "drawn")
    rig = Rig("base_link", {"tele": tele, "wide": wide}, {})
    seen = see([Thing.standing("car", 13, 0.1)], rig)
    fusion = fuse(rig, seen)
    assert len(fusion.objects) == 1
    alone = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
    only_wide = alone.fuse({"wide": seen.detections["wide"]}, seen.image_hw, seen.poses)
    np.testing.assert_array_equal(fusion.objects[0].position_m, only_wide.objects[0].position_m)


def test_two_views_do_not_average_away_what_they_share() -> None:
    """Two cameras side by side see one car: its unknown height is as unknown as to one camera.

    Pixels do average, so they are small here."""
    cameras = {
        name: Camera(name, pinhole(), pose(1.5, y, 1.5, 0), "drawn") for name, y in (("a", 0.1), ("b", -0.1))
    }
    rig = Rig("base_link", cameras, {})
    seen = see([Thing.standing("car", 30, 0)], rig)
    sharp = FuseConfig(box_sigma_px=1.0, box_sigma_fraction=0.02)
    (both,) = fuse(rig, seen, sharp).objects
    only = Seen({"a": seen.detections["a"]}, seen.truth, seen.image_hw, seen.poses)
    (one,) = fuse(rig, only, sharp).objects
    assert len(both.observations) == 2
    assert math.sqrt(both.covariance_m2[0, 0] / one.covariance_m2[0, 0]) > 0.9


def test_views_that_cannot_overlap_are_no_candidates() -> None:
    pairs = overlapping(ring())
    assert ("cam_front", "cam_front_left") in pairs
    assert ("cam_back", "cam_back_right") in pairs
    assert ("cam_back", "cam_front") not in pairs
    assert all(a < b for a, b in pairs)


def test_merges_of_a_noisy_crowd() -> None:
    rng, rig = np.random.default_rng(3), ring()
    fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
    right = wrong = missed = 0
    for _ in range(40):
        things = []
        while len(things) < 15:
            r, a = rng.uniform(8, 40), rng.uniform(0, 2 * math.pi)
            x, y = r * math.cos(a), r * math.sin(a)
            if all(math.hypot(x - t.center_m[0], y - t.center_m[1]) > 5 for t in things):
                label = ("car", "car", "person")[rng.integers(3)]
                things.append(Thing.standing(label, x, y, rng.uniform(0, 6.3)))
        seen = see(things, rig, noise=rng)
        fusion = fuser.fuse(seen.detections, seen.image_hw, seen.poses)
        check(seen.detections, fusion)
        r_, w, m = merges(seen, fusion)
        right, wrong, missed = right + r_, wrong + w, missed + m
    assert right > 100
    assert right / (right + wrong) > 0.95
    assert right / (right + missed) > 0.95


def rows(max_size: int) -> st.SearchStrategy[list[tuple[str, float, list[float]]]]:
    box = st.tuples(st.integers(0, 1590), st.integers(0, 890), st.integers(1, 900), st.integers(1, 600))
    row = st.tuples(
        st.sampled_from(["car", "truck", "person"]), st.integers(5, 100).map(lambda n: n / 100), box
    ).map(
        lambda r: (r[0], r[1], [r[2][0], r[2][1], min(1600, r[2][0] + r[2][2]), min(900, r[2][1] + r[2][3])])
    )
    return st.lists(row, max_size=max_size).map(lambda found: sorted(found, key=lambda r: -r[1]))


@limits(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({name: rows(5) for name in ring().cameras}), st.randoms(use_true_random=False))
def test_any_boxes_give_consistent_objects_whatever_the_order_of_cameras(
    found: dict[str, list[tuple[str, float, list[float]]]], shuffler: random.Random
) -> None:
    rig = ring()
    detections = {name: detections_of(rows) for name, rows in found.items()}
    hw = dict.fromkeys(detections, (900, 1600))
    poses = {name: camera.base_SE3_camera for name, camera in rig.cameras.items()}
    fusion = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig()).fuse(detections, hw, poses)
    check(detections, fusion)
    names = list(detections)
    shuffler.shuffle(names)
    shuffled = Rig("base_link", {n: rig.cameras[n] for n in names}, {})
    again = open_fuser(shuffled, ONTOLOGY, LABELS, FuseConfig()).fuse(
        {n: detections[n] for n in names}, {n: hw[n] for n in names}, {n: poses[n] for n in reversed(names)}
    )
    assert [o.observations for o in again.objects] == [o.observations for o in fusion.objects]
    for a, b in zip(again.objects, fusion.objects, strict=True):
        np.testing.assert_array_equal(a.position_m, b.position_m)
        np.testing.assert_array_equal(a.covariance_m2, b.covariance_m2)
        assert (a.label, a.score, a.class_id) == (b.label, b.score, b.class_id)
