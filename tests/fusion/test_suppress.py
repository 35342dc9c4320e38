"""What counts as detected, and what happens without calibration, classes or ground."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fusion.fuse_scene import LABELS, ONTOLOGY, Thing, detections_of, pinhole, pose, ring, see

from perception_batch.calibration import Camera, Rig
from perception_batch.config import CameraConfig, FuseConfig
from perception_batch.fusion import open_fuser
from perception_batch.fusion.suppress import inside_any
from perception_batch.types import Detections, Fusion

FLAT = Rig("", {}, {"cam": "no CameraInfo"})


def fuse(
    rows: list[tuple[str, float, list[float]]], labels: dict[int, str] | None = None, **kwargs: object
) -> Fusion:
    fuser = open_fuser(FLAT, ONTOLOGY, labels or LABELS, FuseConfig(), **kwargs)  # type: ignore[arg-type]
    return fuser.fuse({"cam": detections_of(rows)}, {"cam": (900, 1600)}, {})


def box(x: float, y: float, w: float = 80, h: float = 60) -> list[float]:
    return [x, y, x + w, y + h]


def test_without_calibration_every_box_that_counts_is_an_object_without_position() -> None:
    fusion = fuse([("car", 0.9, box(0, 0)), ("person", 0.5, box(300, 0)), ("car", 0.2, box(600, 0))])
    assert fusion.suppressed["cam"] == ("", "", "low_score")
    assert [o.label for o in fusion.objects] == ["car", "person"]
    assert not any(o.has_position for o in fusion.objects)
    assert fusion.objects[0].score == pytest.approx(0.9)
    assert fusion.object_of["cam"].tolist() == [0, 1, -1]


def test_a_score_equal_to_the_threshold_counts() -> None:
    for threshold in (0.25, 0.3, 0.7):
        fusion = fuse([("car", threshold, box(0, 0))], detect_score=threshold)
        assert fusion.suppressed["cam"] == ("",)


def test_thresholds_per_label_in_either_naming() -> None:
    labels = {0: "pedestrian", 1: "Car"}
    rows = Detections(
        np.array([box(0, 0), box(300, 0)], np.float32),
        np.array([0.5, 0.45], np.float32),
        np.array([0, 1], np.int16),
    )

    def reasons(threshold: object, **camera: object) -> tuple[str, ...]:
        fuser = open_fuser(
            FLAT,
            ONTOLOGY,
            labels,
            FuseConfig(),
            detect_score=threshold,
            cameras={"cam": CameraConfig(**camera)},
        )  # type: ignore[arg-type]
        return fuser.fuse({"cam": rows}, {"cam": (900, 1600)}, {}).suppressed["cam"]

    assert reasons({"person": 0.6}) == ("low_score", "")
    assert reasons({"pedestrian": 0.6}) == ("low_score", "")
    assert reasons({"Car": 0.6, "pedestrian": 0.1}) == ("", "low_score")
    assert reasons(0.6, score=0.3) == ("", "")
    assert reasons(0.6, score={"car": 0.4}) == ("low_score", "")


def test_classes_by_ontology_name_model_label_and_per_camera() -> None:
    labels = {4: "pedestrian", 5: "van", 6: "car"}
    rows = Detections(
        np.array([box(0, 0), box(300, 0), box(600, 0)], np.float32),
        np.array([0.9, 0.8, 0.7], np.float32),
        np.array([4, 5, 6], np.int16),
    )

    def wanted(*classes: str, own: tuple[str, ...] | None = None) -> list[int]:
        fuser = open_fuser(
            FLAT,
            ONTOLOGY,
            labels,
            FuseConfig(),
            detect_classes=classes,
            cameras={"cam": CameraConfig(classes=own)},
        )
        reasons = fuser.fuse({"cam": rows}, {"cam": (900, 1600)}, {}).suppressed["cam"]
        assert set(reasons) <= {"", "class"}
        return [i for i, reason in enumerate(reasons) if not reason]

    assert wanted("person") == [0]
    assert wanted("pedestrian") == [0]
    assert wanted("human") == [0]
    assert wanted("van") == [1]  # the model tells vans from cars, and vans were asked for
    assert wanted("car") == [1, 2]  # the ontology's car, which is what both are
    assert wanted("person", own=("van",)) == [1]
    fusion = open_fuser(FLAT, ONTOLOGY, labels, FuseConfig()).fuse({"cam": rows}, {"cam": (900, 1600)}, {})
    assert [(o.label, o.class_id) for o in fusion.objects] == [("person", 4), ("car", 6), ("car", 6)]


def test_label_unknown_to_the_ontology_stays_in_the_image_and_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    labels = {0: "car", 1: "zeppelin\x1b[31m"}
    rig = ring()
    fuser = open_fuser(rig, ONTOLOGY, labels, FuseConfig(), detect_classes=("car", labels[1]))
    found = Detections(
        np.array([box(500, 450), box(800, 460)], np.float32),
        np.array([0.9, 0.8], np.float32),
        np.array([1, 0], np.int16),
    )
    poses = {n: c.base_SE3_camera for n, c in rig.cameras.items()}
    for _ in range(2):
        fusion = fuser.fuse({"cam_front": found}, {"cam_front": (900, 1600)}, poses)
    assert [(o.label, o.class_id, o.has_position) for o in fusion.objects] == [
        (labels[1], 1, False),
        ("car", 0, True),
    ]
    assert fusion.objects[0].size_source == "unknown"
    said = [r.getMessage() for r in caplog.records if "zeppelin" in r.getMessage()]
    assert len(said) == 1
    assert "\x1b" not in said[0]


def test_class_number_that_the_model_does_not_list_is_not_a_crash() -> None:
    found = Detections(
        np.array([box(0, 0)], np.float32), np.array([0.9], np.float32), np.array([77], np.int16)
    )
    fuser = open_fuser(FLAT, ONTOLOGY, LABELS, FuseConfig())
    assert fuser.fuse({"cam": found}, {"cam": (900, 1600)}, {}).suppressed["cam"] == ("class",)


def test_mask_takes_boxes_that_lie_mostly_in_it() -> None:
    bonnet = ((0.0, 700.0), (1600.0, 650.0), (1600.0, 900.0), (0.0, 900.0))
    fusion = fuse(
        [
            ("car", 0.9, box(100, 720, 900, 180)),
            ("car", 0.8, box(700, 400, 300, 300)),
            ("person", 0.5, box(20, 20)),
        ],
        cameras={"cam": CameraConfig(mask=(bonnet,))},
    )
    assert fusion.suppressed["cam"] == ("ego_mask", "", "")


def test_even_odd_rule_against_winding_by_angles() -> None:
    rng = np.random.default_rng(5)
    polygon = [(0.0, 0.0), (10.0, 1.0), (6.0, 5.0), (9.0, 9.0), (1.0, 8.0)]
    points = rng.uniform(-2, 12, (500, 2))
    for point, got in zip(points, inside_any(points, [polygon]), strict=True):
        angles = [math.atan2(y - point[1], x - point[0]) for x, y in polygon]
        turns = sum(
            (b - a + math.pi) % (2 * math.pi) - math.pi
            for a, b in zip(angles, angles[1:] + angles[:1], strict=True)
        )
        assert got == (abs(turns) > math.pi)


def test_duplicates_are_of_one_group_and_the_weaker_goes() -> None:
    fusion = fuse(
        [
            ("car", 0.9, box(100, 100, 200, 100)),
            ("truck", 0.6, box(105, 98, 200, 100)),
            ("person", 0.5, box(100, 100, 200, 100)),
            ("car", 0.4, box(100, 100, 60, 100)),
        ]
    )
    assert fusion.suppressed["cam"] == ("", "duplicate", "", "")
    assert fusion.object_of["cam"].tolist()[1] == -1
    lower_half = fuse([("person", 0.9, box(0, 0, 50, 100)), ("person", 0.4, box(0, 50, 50, 50))])
    assert lower_half.suppressed["cam"] == ("", "duplicate")
    car_before_lorry = fuse([("truck", 0.9, box(0, 0, 600, 300)), ("car", 0.8, box(200, 150, 200, 150))])
    assert car_before_lorry.suppressed["cam"] == ("", "")


def test_a_chain_of_overlaps_keeps_its_ends() -> None:
    """The middle box is a duplicate of the first; the last overlaps the middle only, and stays."""
    boxes = [box(0, 0, 100, 100), box(20, 0, 100, 100), box(40, 0, 100, 100)]
    fusion = fuse([("car", s, b) for s, b in zip((0.9, 0.8, 0.7), boxes, strict=True)])
    assert fusion.suppressed["cam"] == ("", "duplicate", "")


def test_empty_timestep() -> None:
    fuser = open_fuser(ring(), ONTOLOGY, LABELS, FuseConfig())
    assert fuser.fuse({}, {}, {}).objects == ()
    fusion = fuser.fuse({"cam_front": Detections.empty()}, {"cam_front": (900, 1600)}, {})
    assert fusion.objects == ()
    assert fusion.object_of["cam_front"].shape == (0,)


def test_calibrated_camera_without_pose_now_has_no_positions() -> None:
    rig = ring()
    seen = see([Thing.standing("car", 20, 0)], rig)
    fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
    assert not fuser.fuse(seen.detections, seen.image_hw, {}).objects[0].has_position


def test_ground_from_config_transform_and_mount() -> None:
    def ground(rig: Rig, settings: FuseConfig | None = None) -> tuple[float, str]:
        found = open_fuser(rig, ONTOLOGY, LABELS, settings or FuseConfig()).ground
        return found.z_m, found.source

    assert ground(ring(), FuseConfig(ground_z_m=-0.4)) == (-0.4, "config")
    assert ground(ring(ground_z_m=-0.33)) == (-0.33, "transform")
    assert ground(ring()) == (0.0, "mount")
    assert ground(ring(z=0.0))[1] == "unknown"
    assert ground(FLAT)[1] == "unknown"


def test_ground_of_a_roof_frame_is_learnt_from_the_drive() -> None:
    """The base frame is a sensor on the roof, 1.9 m above the road: cameras at z = 0.1."""
    rng = np.random.default_rng(2)
    rig = Rig("roof", {"cam": Camera("cam", pinhole(f=900), pose(0, 0, 0.1, 0), "drawn")}, {})
    fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
    for k in range(30):
        things = [Thing.standing("car", rng.uniform(10, 30), y, rng.uniform(0, 6), z=-1.9) for y in (-4, 4)]
        seen = see(things, rig, noise=rng)
        fusion = fuser.fuse(seen.detections, seen.image_hw, seen.poses)
        assert any(o.has_position for o in fusion.objects)  # by height, while the ground is unknown
        if k == 0:
            assert fuser.ground.source == "unknown"
    assert fuser.ground.source == "estimated"
    assert abs(fuser.ground.z_m + 1.9) < 0.15


def test_ego_motion_between_frames_moves_the_view() -> None:
    """The pose given is the camera's at its frame's stamp, seen from the base at the timestep's."""
    rig = ring()
    thing = Thing.standing("car", 25, 0)
    ahead = {"cam_front": pose(1.7 + 2.0, 0.0, 1.55, 0.0)}
    seen = see([thing], rig, true_poses=ahead)
    fuser = open_fuser(rig, ONTOLOGY, LABELS, FuseConfig())
    (found,) = fuser.fuse({"cam_front": seen.detections["cam_front"]}, seen.image_hw, ahead).objects
    assert np.linalg.norm(found.position_m[:2] - thing.center_m[:2]) < 1.0
