"""The parts that choose: hashes, groups, limits, splits, files; against slow oracles."""

from __future__ import annotations

import io

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.geometry import box_iou
from perception_batch.labels.evidence import hit_rates, order_of, pairwise_iou, steadiness
from perception_batch.labels.image_files import as_file, file_name, unique_names
from perception_batch.labels.label_settings import LabelSettings, PerClass
from perception_batch.labels.near_duplicates import SeenImages, hash_of_file, hash_of_image
from perception_batch.labels.run_rows import REASONS, BoxRows, FrameRows, Stretch, TrackRows
from perception_batch.labels.scored_boxes import ACCEPTED, DROPPED, IGNORED, QUALITY, UNTRACKED, ScoredBoxes
from perception_batch.labels.selection import OUT, Images, choose, summarise
from perception_batch.labels.splits import split_images
from perception_batch.labels.track_evidence import TrackEvidence, in_classes_of_set


def boxes_at(stamps_s: list[float], x: list[float], camera: int = 0, track: int = 0) -> BoxRows:
    n = len(stamps_s)
    whole = np.arange(n)
    xyxy = np.array([[v, 10.0, v + 20, 40.0] for v in x]).reshape(-1, 4)
    stamps = np.round(np.array(stamps_s) * 1e9).astype(np.int64)
    same = np.full(n, camera), np.full(n, track)
    return BoxRows(
        whole, same[0], stamps, whole * 0, xyxy, np.full(n, 0.8), whole * 0, whole * 0, same[1], whole * 0
    )


def frames_at(stamps_s: list[float]) -> FrameRows:
    n = len(stamps_s)
    stamps = np.round(np.array(stamps_s) * 1e9).astype(np.int64)
    return FrameRows(np.arange(n), np.zeros(n, np.int64), stamps, np.full(n, 640), np.full(n, 480))


@given(st.lists(st.tuples(*[st.floats(0, 100)] * 8), min_size=1, max_size=20))
def test_overlap_of_partners(rows: list[tuple[float, ...]]) -> None:
    table = np.array(rows)
    a, b = (np.sort(table[:, i : i + 4].reshape(-1, 2, 2), axis=1).reshape(-1, 4) for i in (0, 4))
    a[:, 2:] += 1
    b[:, 2:] += 1
    assert pairwise_iou(a, b) == pytest.approx(np.diag(box_iou(a, b)))


@given(st.sets(st.integers(0, 60), min_size=1, max_size=40), st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_hit_rate_against_counting(seen: set[int], step: int) -> None:
    every = [i * 0.1 for i in range(61)]
    picked = sorted(i for i in seen if i % step == 0) or [0]
    rows, frames = boxes_at([i * 0.1 for i in picked], [0.0] * len(picked)), frames_at(every)
    found = hit_rates(rows, frames, order_of(rows))
    for i, rate in zip(picked, found, strict=True):
        near = [j for j in picked if abs(i - j) <= 10]
        assert rate == pytest.approx(len(near) / (max(near) - min(near) + 1))


def test_steady_boxes_lie_where_their_neighbours_say() -> None:
    rows = boxes_at([0.0, 0.1, 0.2, 0.3], [0.0, 5.0, 10.0, 40.0])
    found = steadiness(rows, order_of(rows), 10**9)
    assert found[1] == pytest.approx(1.0)
    assert found[2] < 0.5
    assert found[3] == 0.0


def picture(seed: int) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (12, 20, 3), np.uint8)
    return np.asarray(cv2.resize(small, (640, 384), interpolation=cv2.INTER_CUBIC), np.uint8)


def test_the_same_picture_is_known_again_and_another_is_not() -> None:
    seen = SeenImages(10)
    first = hash_of_image(picture(1))
    assert seen.is_new("front", first)
    for quality in (95, 50):
        data = cv2.imencode(".jpg", picture(1)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        again = hash_of_file(data)
        assert again is not None
        assert not seen.is_new("front", again)
        assert seen.is_new(f"rear{quality}", again)
    assert seen.is_new("front", hash_of_image(picture(2)))
    assert hash_of_file(b"\xff\xd8\xff nothing") is None


def test_more_hashes_than_there_was_room_for() -> None:
    rng, seen = np.random.default_rng(0), SeenImages(0)
    hashes = rng.integers(0, 2**63, (2500, 4)).astype(np.uint64)
    assert all(seen.is_new("front", row) for row in hashes)
    assert not any(seen.is_new("front", row) for row in hashes[::7])


def jpeg(exif_orientation: int | None) -> bytes:
    from PIL import Image

    image, out = Image.fromarray(picture(3)), io.BytesIO()
    exif = Image.Exif()
    if exif_orientation is not None:
        exif[0x0112] = exif_orientation
    image.save(out, "JPEG", exif=exif, quality=90)
    return out.getvalue()


def test_jpeg_bytes_stay_but_for_turns_and_tails() -> None:
    plain, turned = jpeg(None), jpeg(6)
    kept = as_file(plain)
    assert kept is not None
    assert bytes(kept[0]) == plain
    kept = as_file(plain + bytes(20))
    assert kept is not None
    assert bytes(kept[0]) == plain
    kept = as_file(turned)
    assert kept is not None
    upright, as_it_was = (
        np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)) for data in (kept[0], plain)
    )
    assert upright.shape == (384, 640, 3)
    assert np.array_equal(upright, as_it_was)
    assert as_file(b"RIFF....WEBP") is None


def test_names_are_safe_and_differ() -> None:
    assert file_name("drive_1", "cam_front", 5) == "drive_1_cam_front_5"
    one, other = file_name("a/b", "c", 5), file_name("a?b", "c", 5)
    assert one != other
    assert "/" not in one
    assert len(file_name("x" * 500, "y" * 500, 10**18)) < 200
    assert unique_names(["a", "a", "b", "a"]) == ["a", "a-2", "b", "a-3"]


def test_classes_that_a_map_makes_one_are_not_mistaken_for_each_other() -> None:
    tracks = TrackRows(("car", "person"), np.array([0, 2]), np.ones(2, int), np.zeros(2, int), np.ones(2))
    shares = ({0: 0.6, 1: 0.39}, {2: 0.9, 3: 0.1})
    evidence = TrackEvidence(
        tracks, np.array([0, 2]), np.array([0.6, 0.9]), shares, np.zeros(2), np.full(2, np.nan)
    )
    apart = in_classes_of_set(evidence, np.array([0, 1, 2, 3]))
    assert apart.class_share.tolist() == [0.6, 0.9]
    vehicles = in_classes_of_set(evidence, np.array([0, 0, 1, -1]))
    assert vehicles.class_share == pytest.approx([0.99, 0.9])


def test_an_image_of_which_everything_was_dropped_is_no_negative() -> None:
    n = 5
    whole, none = np.arange(n), np.zeros(n, np.int64)
    frames = FrameRows(whole, none, whole * 10**8, none + 640, none + 480)
    band = np.array([DROPPED, DROPPED, DROPPED, ACCEPTED, IGNORED])
    why = np.array([UNTRACKED, QUALITY, REASONS.index("low_score"), 0, QUALITY])
    boxes = ScoredBoxes(
        whole, none, whole * 10**8, none, np.ones((n, 4)), np.full(n, 0.4), none, np.full(n, 0.1), band, why,
        none, none, np.zeros(n), none > 0,
    )  # fmt: skip
    stretch = Stretch(0, 256, frames, boxes_at([], []))
    images = summarise(0, stretch, boxes, ("car",), LabelSettings())
    choose(images, ("car",), LabelSettings(negatives=1.0))
    assert [OUT[code] for code in images.out] == ["only_dropped", "only_dropped", "", "", "only_ignored"]


def images_of(accepted: np.ndarray, runs: np.ndarray, stamps_s: np.ndarray | None = None) -> Images:
    n = len(accepted)
    stamps = np.arange(n) * 0.1 if stamps_s is None else stamps_s
    return Images(
        runs.astype(np.int32),
        np.arange(n, dtype=np.int32),
        np.zeros(n, np.int16),
        np.round(stamps * 1e9).astype(np.int64),
        accepted.astype(np.uint16),
        np.zeros(n, np.uint16),
        np.zeros(n, np.float32),
        np.zeros(n, np.uint8),
    )


@given(st.integers(0, 5), st.integers(3, 9), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_a_group_is_in_one_split_and_no_split_is_empty(seed: int, drives: int, lot: int) -> None:
    rng = np.random.default_rng(lot)
    runs = np.sort(np.concatenate([np.arange(drives), rng.integers(0, drives, 200)]))
    images = images_of(rng.integers(0, 3, (len(runs), 2)), runs)
    chosen = LabelSettings(seed=seed)
    found = split_images(images, runs, [f"d{i}" for i in range(drives)], chosen)
    for drive in range(drives):
        assert len(set(found.split[runs == drive].tolist())) == 1
    assert set(found.split.tolist()) == {0, 1, 2}
    again = split_images(images, runs, [f"d{i}" for i in range(drives)], chosen)
    assert (again.split == found.split).all()


def test_a_drive_too_short_for_its_guard_time_is_not_split() -> None:
    images = images_of(np.ones((50, 1)), np.zeros(50))
    found = split_images(images, np.zeros(50, np.int64), ["d"], LabelSettings())
    assert set(found.split.tolist()) == {0}
    assert any("too short" in note for note in found.notes)
    assert images.kept.all()


def test_quota_takes_the_rare_class_first_and_negatives_keep_their_share() -> None:
    accepted = np.zeros((100, 2))
    accepted[:60, 0] = 1
    accepted[50:55, 1] = 1
    images = images_of(accepted, np.zeros(100))
    choose(images, ("car", "tram"), LabelSettings(quota=PerClass(10), negatives=0.25))
    kept = images.kept
    assert kept[50:55].all()
    assert images.accepted[kept, 0].sum() == 10
    assert kept[60:].sum() == int(kept[:60].sum() / 3)
    assert kept.sum() + (images.out > 0).sum() == 100
