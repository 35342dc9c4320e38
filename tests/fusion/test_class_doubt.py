"""Two boxes of different classes on one thing: it stands between where either class would put it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fusion.fuse_scene import LABELS, ONTOLOGY, Thing, box_of, detections_of, ring
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.config import FuseConfig
from perception_batch.fusion import open_fuser
from perception_batch.fusion.class_doubt import mixed
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
    ray = np.concatenate([rng.normal(size=(n, 2)), 0.1 * rng.normal(size=(n, 1))], axis=1)
    ray[:] = ray[0]
    near = rng.uniform(5, 40, (n, 1))
    lasting = np.stack([0.2 * near * ray, 0.1 * near * ray], axis=1)
    root = rng.normal(size=(n, 3, 3))
    jitter = root @ root.transpose(0, 2, 1)
    total = jitter + lasting.transpose(0, 2, 1) @ lasting
    known = np.ones(n, bool)
    plane = total[:, :2, :2]
    return Views(near * ray, plane, lasting[:, :, :2], total, jitter, lasting, known, known, near * (0.8, 1.2),
                 (near * ray)[:, :2])  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.floats(0.05, 1.0), min_size=2, max_size=4))
def test_a_mixture_has_the_mean_and_the_covariance_of_its_parts(seed: int, says: list[float]) -> None:
    rng = np.random.default_rng(seed)
    of = views(rng, len(says) + 1)
    rows = list(range(1, len(says) + 1))
    out = mixed(of, [(rows, says), (rows[:1], says[:1])])
    assert len(out.position_m) == len(says) + 3
    share = np.array(says) / sum(says)
    mean = sum(w * of.position_m[k] for w, k in zip(share, rows, strict=True))
    spread = sum(
        w * (of.total_m2[k] + np.outer(of.position_m[k] - mean, of.position_m[k] - mean))
        for w, k in zip(share, rows, strict=True)
    )
    at = len(says) + 1
    np.testing.assert_allclose(out.position_m[at], mean, atol=1e-9)
    np.testing.assert_allclose(out.total_m2[at], spread, rtol=1e-6, atol=1e-6)
    parts = out.jitter_m2[at] + out.lasting_m[at].T @ out.lasting_m[at]
    np.testing.assert_allclose(parts, spread, rtol=1e-6, atol=1e-6)
    assert np.linalg.eigvalsh(out.jitter_m2[at]).min() > -1e-6
    assert out.lasting_m[at, 0] @ of.lasting_m[1, 0] > 0  # farther is farther, in every view
    for name in Views.__slots__:  # what needs no mixing is the same to the byte
        assert getattr(out, name)[at + 1].tobytes() == getattr(of, name)[rows[0]].tobytes()
        assert getattr(out, name)[:at].tobytes() == getattr(of, name).tobytes()


@pytest.mark.parametrize("unknown", [1, 2])
def test_a_place_that_is_not_known_has_no_part(unknown: int) -> None:
    of = views(np.random.default_rng(1), 3)
    known = of.known.copy()
    known[unknown] = False
    of = replace(of, known=known)
    of.position_m[unknown], of.total_m2[unknown] = np.nan, np.nan
    out = mixed(of, [([1, 2], [0.6, 0.3])])
    assert out.position_m[3].tobytes() == of.position_m[1].tobytes()
    assert out.known[3] == known[1]
    assert mixed(of, []) is of
