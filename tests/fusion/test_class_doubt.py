"""Two boxes of different classes on one thing: it stands between where either class would put it."""

from __future__ import annotations

import numpy as np
from fusion.fuse_scene import LABELS, ONTOLOGY, Thing, box_of, detections_of, ring
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.config import FuseConfig
from perception_batch.fusion import open_fuser
from perception_batch.fusion.boxes import Words
from perception_batch.fusion.class_doubt import mixed
from perception_batch.fusion.groups import Groups, decided
from perception_batch.fusion.placed import Places
from perception_batch.fusion.position import Views
from perception_batch.types import FusedObject

RIG = ring()


def told(
    *boxes: tuple[str, float], camera: str = "cam_front", x: float = 25.0, y: float = 0.0
) -> FusedObject:
    """A car's place, for boxes of these labels and scores drawn round it."""
    box = box_of(Thing.standing("car", x, y), RIG.cameras[camera])
    assert box is not None
    fuser = open_fuser(RIG, ONTOLOGY, LABELS, FuseConfig(ground_memory_s=0.0, ground_sigma_m=2.0))
    found = {camera: detections_of([(label, score, box.tolist()) for label, score in boxes])}
    fusion = fuser.fuse(found, {camera: (900, 1600)}, {camera: RIG.cameras[camera].base_SE3_camera})
    (item,) = fusion.objects
    return item


def reach(item: FusedObject) -> float:
    return float(np.hypot(*item.position_m[:2]))


def test_what_may_be_a_car_or_a_truck_is_between_both() -> None:
    car, truck = told(("car", 0.8)), told(("truck", 0.8))
    assert reach(truck) > 1.2 * reach(car)
    both = told(("truck", 0.6), ("car", 0.3))
    assert both.label == "truck"
    assert reach(car) < reach(both) < reach(truck)
    assert told(("car", 0.6), ("truck", 0.3)).label == "car"
    assert reach(told(("car", 0.6), ("truck", 0.3))) < reach(both)
    for item in (car, truck):
        off = (item.position_m - both.position_m)[:2]
        assert off @ np.linalg.solve(both.covariance_m2[:2, :2], off) < 5.99


def test_one_class_said_twice_is_no_doubt() -> None:
    once, twice = told(("car", 0.8)), told(("car", 0.8), ("car", 0.5))
    assert twice.position_m.tobytes() == once.position_m.tobytes()
    assert twice.covariance_m2.tobytes() == once.covariance_m2.tobytes()


def views(rng: np.random.Generator, n: int) -> Views:
    """Some, along rays from the origin."""
    ray = np.array([[0.8], [0.6], [0.1 * rng.normal()]]) * np.ones(n)
    near = rng.uniform(5, 40, n)
    jitter, lasting = rng.uniform(0.1, 4, (3, n)), rng.uniform(0.1, 3, (3, n))
    yes, plane = np.ones(n, bool), np.zeros((7, n))
    return Views(
        near * ray, ray, plane, jitter, lasting, yes, yes, np.stack([0.8 * near, near]), near * ray[:2]
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.floats(0.05, 1.0), min_size=2, max_size=4))
def test_a_mixture_has_the_mean_and_the_covariance_of_its_parts(seed: int, says: list[float]) -> None:
    rng = np.random.default_rng(seed)
    of = views(rng, len(says) + 1)
    whole = Places.of_views(of)
    rows = list(range(1, len(says) + 1))
    out = mixed(of, [(rows[:1], says[:1]), (rows, says)])
    share = np.array(says) / sum(says)
    mean = sum(w * whole.position_m[k] for w, k in zip(share, rows, strict=True))
    spread = sum(
        w * (whole.total_m2[k] + np.outer(whole.position_m[k] - mean, whole.position_m[k] - mean))
        for w, k in zip(share, rows, strict=True)
    )
    np.testing.assert_allclose(out.position_m[1], mean, atol=1e-9)
    np.testing.assert_allclose(out.total_m2[1], spread, rtol=1e-6, atol=1e-6)
    parts = out.jitter_m2[1] + out.lasting_m[1].T @ out.lasting_m[1]
    np.testing.assert_allclose(parts, spread, rtol=1e-6, atol=1e-6)
    assert np.linalg.eigvalsh(out.jitter_m2[1]).min() > -1e-6
    assert out.lasting_m[1, 0] @ whole.lasting_m[1, 0] > 0  # farther is farther, in every view
    np.testing.assert_allclose(out.position_m[0], whole.position_m[1], atol=1e-9)  # whoever else is asked
    np.testing.assert_allclose(out.total_m2[0], whole.total_m2[1], rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_places_are_spread_along_their_rays_and_across(seed: int) -> None:
    of = views(np.random.default_rng(seed), 3)
    whole = Places.of_views(of)
    for k in range(3):
        ray, across, up = (
            of.ray[:, k],
            np.array([-of.ray[1, k], of.ray[0, k], 0.0]),
            np.array([0.0, 0.0, 1.0]),
        )
        along, aside, upwards = of.jitter[:, k]
        new = along * np.outer(ray, ray) + aside * np.outer(across, across) + upwards * np.outer(up, up)
        size, ground = of.lasting[0, k] * ray + of.lasting[1, k] * up, of.lasting[2, k] * ray
        np.testing.assert_allclose(whole.jitter_m2[k], new, atol=1e-12)
        np.testing.assert_allclose(whole.lasting_m[k], [size, ground], atol=1e-12)
        np.testing.assert_allclose(
            whole.total_m2[k], new + np.outer(size, size) + np.outer(ground, ground), atol=1e-12
        )
        assert (whole.total_m2[k] == whole.total_m2[k].T).all()


NAMES = ["car", "bus", "truck", "ambulance"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.25, 0.5, 0.75])), min_size=1, max_size=3)),
        max_size=8,
    )
)  # fmt: skip
def test_what_a_thing_is_called_by_columns_and_one_by_one(
    boxes: list[tuple[int, list[tuple[int, float]]]],
) -> None:
    boxes = [(g % (i + 1), says) for i, (g, says) in enumerate(boxes)]
    # Groups are led by their first box, as association has them.
    leader = np.array([next(j for j, (h, _) in enumerate(boxes) if h == g) for g, _ in boxes], np.int64)
    words = [(i, kind, score) for i, (_, says) in enumerate(boxes) for kind, score in says]
    columns = Words(
        np.array([w[0] for w in words], np.int64), np.array([w[1] for w in words], np.int64), np.array([w[2] for w in words])
    )  # fmt: skip
    yaw = np.where(np.arange(len(boxes)) % 2 == 1, np.arange(len(boxes)) * 0.1, np.nan)
    groups = Groups.led(leader, np.array([says[0][0] for _, says in boxes], np.int64), yaw)
    of_box = np.empty(len(boxes), np.int64)
    of_box[groups.box] = groups.of
    by_name = np.array([sorted(NAMES).index(name) for name in NAMES])
    kinds = decided(columns, of_box, len(groups.first), by_name)
    slow: dict[int, list[int]] = {}
    for box, first in enumerate(leader.tolist()):
        slow.setdefault(first, []).append(box)
    assert groups.counts.tolist() == [len(slow[first]) for first in sorted(slow)]
    for number, first in enumerate(sorted(slow)):
        members = slow[first]
        start = int(groups.first[number])
        assert groups.box[start : start + len(members)].tolist() == members
        sums: dict[str, float] = {}
        for box in members:
            for kind, score in boxes[box][1]:
                sums[NAMES[kind]] = sums.get(NAMES[kind], 0.0) + score
        assert NAMES[kinds[number]] == min(sums, key=lambda name: (-sums[name], name))
    lost = np.arange(len(slow)) % 2 == 0
    left = groups.without(lost)
    assert left.box.tolist() == [box for n, first in enumerate(sorted(slow)) if n % 2 for box in slow[first]]
    assert left.counts.tolist() == [len(slow[first]) for n, first in enumerate(sorted(slow)) if n % 2]
