"""The numbers of a run against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_batch import accounts as module
from perception_batch.accounts import Accounts, cameras_over_limit
from perception_batch.types import Detections, FrameRow, FrameStatus, FusedObject, Fusion, TimestepResult

CAMERAS = ("left", "right")


def row(camera: str, status: str, reason: str = "", stamp_ns: int = 0) -> FrameRow:
    return FrameRow(camera, stamp_ns, stamp_ns, 0, status, reason, 4, 4, "jpeg")  # type: ignore[arg-type]


def thing(position: float) -> FusedObject:
    return FusedObject(
        2,
        "car",
        0.9,
        np.full(3, position),
        np.eye(3),
        np.ones(3),
        "prior",
        0.0,
        (),
    )


def result(
    index: int,
    status: dict[str, FrameStatus],
    stamps_ns: dict[str, int],
    objects: tuple[FusedObject, ...] = (),
) -> TimestepResult:
    boxes = Detections(np.zeros((3, 4), np.float32), np.ones(3, np.float32), np.zeros(3, np.int16))
    found = {name: boxes for name in stamps_ns if status[name] == "ok"}
    return TimestepResult(index, index, status, stamps_ns, found, Fusion(objects, {}, {}), None)


rows = st.lists(
    st.builds(
        row,
        st.sampled_from(CAMERAS),
        st.sampled_from(["used", "unused", "undecodable"]),
        st.sampled_from(["duplicate", "broken_jpeg"]),
        st.integers(0, 1000),
    ),
    max_size=60,
)


@given(rows, st.integers(1, 7))
def test_every_frame_is_counted_once(all_rows: list[FrameRow], parts: int) -> None:
    total = Accounts.of(CAMERAS)
    for i in range(parts):
        total.add_rows(all_rows[i::parts])
    counts = total.counts()
    assert counts["frames_in_log"] == len(all_rows) == total.frames_in_log
    assert counts["frames_in_log"] == sum(counts[f"frames_{s}"] for s in ("used", "unused", "undecodable"))
    for status in ("used", "unused", "undecodable"):
        assert total.total(status) == sum(r.status == status for r in all_rows)
    for key, count in total.reasons.items():
        stamps = [
            r.stamp_ns for r in all_rows if (r.camera, r.status, r.reason) == key and r.status != "used"
        ]
        assert count == len(stamps)
        assert total.reason_range_ns[key] == (min(stamps), max(stamps))
    assert sum(total.reasons.values()) == len(all_rows) - total.total("used")
    listed = list(total.lost())
    assert listed == sorted(listed)
    assert sum(count for _, _, count, _ in listed) == total.total("undecodable")


def test_timesteps_detections_and_objects() -> None:
    total = Accounts.of(CAMERAS)
    total.add_result(result(0, {"left": "ok", "right": "ok"}, {"left": 0, "right": 5}, (thing(1.0),)))
    total.add_result(result(1, {"left": "ok", "right": "missing"}, {"left": 10}, (thing(np.nan),)))
    total.add_result(result(2, {"left": "ok", "right": "not_due"}, {"left": 20}))
    total.add_result(result(3, {"left": "undecodable", "right": "ok"}, {"left": 30, "right": 37}))
    total.add_result(result(4, {"left": "ok", "right": "held"}, {"left": 40, "right": 4}))
    counts = total.counts()
    assert counts["timesteps"] == 5
    assert counts["timesteps_incomplete"] == 2
    assert counts["detections"] == 3 * 6
    assert counts["objects"] == 2
    assert total.positioned == 1
    assert total.coverage("left") == 0.8
    assert total.coverage("right") == 0.75
    assert total.coverage("nobody") is None
    assert total.spread() == {"p50": 5, "p95": 7, "max": 7}


def test_one_camera_has_no_spread() -> None:
    total = Accounts.of(("left",))
    total.add_result(result(0, {"left": "ok"}, {"left": 0}))
    assert total.spread() == {"p50": None, "p95": None, "max": None}


def test_spreads_of_a_long_drive_are_thinned_and_stay_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SPREADS_KEPT", 400)
    total = Accounts.of(CAMERAS)
    rng = np.random.default_rng(0)
    spreads = rng.integers(0, 40_000_000, 10_000).tolist()
    spreads[7777] = 99_000_000  # the largest one is never lost
    for i, spread in enumerate(spreads):
        total.add_result(result(i, {"left": "ok", "right": "ok"}, {"left": i, "right": i + spread}))
        assert len(total._spreads_ns) < 400
    got = total.spread()
    assert got["max"] == 99_000_000
    assert got["p50"] == pytest.approx(20_000_000, rel=0.15)
    assert got["p95"] == pytest.approx(38_000_000, rel=0.05)
    assert all(isinstance(v, int) for v in got.values())


@pytest.mark.parametrize(
    ("undecodable", "absent", "limit", "over"),
    [
        (0, 0, 0.0, None),
        (1, 0, 0.0, 1.0),
        (1, 0, 1.0, None),  # just the limit is allowed
        (2, 0, 1.0, 2.0),
        (0, 100, 49.0, 50.0),
        (10, 100, 54.0, 55.0),
    ],
)
def test_cameras_over_the_limit(undecodable: int, absent: int, limit: float, over: float | None) -> None:
    total = Accounts.of(CAMERAS)
    total.add_rows([row("left", "undecodable", "broken_jpeg")] * undecodable)
    total.add_rows([row("left", "used")] * (90 - undecodable) + [row("left", "unused", "duplicate")] * 10)
    expected = [] if over is None else [("left", pytest.approx(over))]
    assert cameras_over_limit(total, {"left": absent} if absent else {}, limit, CAMERAS) == expected


def test_a_camera_that_is_all_absent_is_over_any_limit() -> None:
    assert cameras_over_limit(Accounts.of(CAMERAS), {"right": 3}, 99.0, CAMERAS) == [("right", 100.0)]
