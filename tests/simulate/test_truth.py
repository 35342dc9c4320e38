from __future__ import annotations

import itertools
import json
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from simulate.flat_stage import FlatDrawer, FlatWorld, flat_stage
from simulate.read_back import Seen, read_all
from simulate.test_timing import ALL

from perception_batch.errors import LogError
from perception_batch.simulate.drive import simulate
from perception_batch.simulate.settings import START_NS, Faults, SimulateSettings
from perception_batch.simulate.truth import Truth, load_truth
from perception_batch.simulate.truth_tables import FAULT_KINDS, TABLES, schema_as_markdown

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = SimulateSettings(duration_s=6.0, size_px=(48, 32), image="png", faults=ALL)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Seen], Truth, dict[str, FlatDrawer]]:
    drawers: dict[str, FlatDrawer] = {}
    out = tmp_path_factory.mktemp("truth") / "out"
    log = simulate(out, SETTINGS, stage=flat_stage(drawers))
    return read_all(log), load_truth(out), drawers


def test_the_page_shows_the_schema() -> None:
    assert schema_as_markdown() in (ROOT / "docs" / "simulate.md").read_text()


def test_tables_are_as_described(drive: tuple[list[Seen], Truth, dict[str, FlatDrawer]]) -> None:
    truth = drive[1]
    for table in TABLES:
        data = getattr(truth, table.name)
        assert data.schema.equals(table.arrow(), check_metadata=True)
        for column in table.columns:
            assert column.nullable or data[column.name].null_count == 0
        floats = [c.name for c in table.columns if c.type == "float64"]
        assert all(np.isfinite(data[name].drop_null().to_numpy()).all() for name in floats)
    assert truth.timesteps.num_rows == 60 * 6
    assert truth.ego.num_rows == 60
    assert truth.meta["cameras"] == list(SETTINGS.cameras)
    assert truth.meta["options"]["faults"]["clock_jump"] == {"cam_back": {"offset_ms": -75, "at_s": 3.0}}


def test_every_injected_fault_is_in_the_truth_and_nothing_else(
    drive: tuple[list[Seen], Truth, dict[str, FlatDrawer]],
) -> None:
    """The log is compared with the ideal one, message by message; what differs must be told, as large as it is."""
    seen, truth, _ = drive
    faults = truth.faults.to_pylist()
    assert {f["kind"] for f in faults} == set(FAULT_KINDS)  # all kinds are on in this drive
    per_message = {k: {(f["camera"], f["cycle"]): f for f in faults if f["kind"] == k} for k in FAULT_KINDS}
    lasting = {
        k: {f["camera"]: f["value"] for f in faults if f["kind"] == k and f["cycle"] == 0}
        for k in FAULT_KINDS
    }
    in_log: dict[tuple[str, int], list[Seen]] = {}
    for s in (s for s in seen if s.is_picture):
        in_log.setdefault((s.camera, s.stamp_ns), []).append(s)
    assert sum(map(len, in_log.values())) == sum(truth.timesteps["messages"].to_pylist())
    jump = next(f for f in faults if f["kind"] == "clock_jump")
    for row in truth.timesteps.to_pylist():
        camera, key = row["camera"], (row["camera"], row["cycle"])
        messages = sorted(in_log.pop((camera, row["stamp_ns"]), []), key=lambda s: s.log_ns)
        assert len(messages) == row["messages"]
        # Nothing is missing but what is told as dropped, or before a late start.
        started = row["cycle_ns"] >= START_NS + lasting["late_start"].get(camera, 0)
        assert (not messages) == (key in per_message["drop"] or not started)
        # Twice, and when the second comes.
        assert (len(messages) == 2) == (key in per_message["duplicate"])
        if len(messages) == 2:
            assert messages[1].log_ns == per_message["duplicate"][key]["log_ns"]
            assert messages[1].raw == messages[0].raw
        # The exposure: cycle + stagger + offset, scattered by no more than three times the jitter.
        exposure_ns = row["true_ns"] + int(per_message["freeze"].get(key, {"value": 0})["value"])
        ideal_ns = (
            row["cycle_ns"] + lasting["stagger"].get(camera, 0) + lasting["exposure_offset"].get(camera, 0)
        )
        assert abs(exposure_ns - ideal_ns) <= 3 * lasting["jitter"][camera]
        # The stamp: exposure less offset, on a clock that drifts and jumps as told.
        trigger_ns = exposure_ns - int(lasting["exposure_offset"].get(camera, 0))
        off = (trigger_ns - START_NS) * lasting["clock_drift"].get(camera, 0.0) / 1e6
        if camera == jump["camera"] and row["cycle"] >= jump["cycle"]:
            off += jump["value"]
        assert row["stamp_ns"] - trigger_ns == pytest.approx(off, abs=1)
        # Log time: exposure + delay + what is told as late and as waiting, and the delay's own scatter.
        if messages:
            told = sum(per_message[k].get(key, {"value": 0})["value"] for k in ("late", "bunched"))
            rest_ns = messages[0].log_ns - exposure_ns - told
            assert 5e6 <= rest_ns <= 5e6 + 10 * lasting["log_jitter"][camera]
        # Frozen pictures, and only these, have the bytes of the one before.
        assert (row["status"] == "frozen") == (key in per_message["freeze"])
        assert row["belongs"] == (row["status"] == "ok")
    assert not in_log  # every picture of the log is in the truth
    # And the recorder's stops: nothing is written during one.
    stops = [f for f in faults if f["kind"] == "bunch"]
    assert [f["stamp_ns"] - START_NS for f in stops] == [2_500_000_000, 5_000_000_000]
    for stop in stops:
        assert not [s for s in seen if stop["stamp_ns"] <= s.log_ns < stop["log_ns"]]


def test_frozen_pictures_repeat_the_bytes_and_the_boxes(
    drive: tuple[list[Seen], Truth, dict[str, FlatDrawer]],
) -> None:
    seen, truth, _ = drive
    rows = [r for r in truth.timesteps.to_pylist() if r["camera"] == "cam_front_left" and r["messages"]]
    data = {s.stamp_ns: s.data for s in seen if s.is_picture and s.camera == "cam_front_left"}
    frozen = 0
    for before, row in itertools.pairwise(rows):
        assert (data[row["stamp_ns"]] == data[before["stamp_ns"]]) == (row["status"] == "frozen")
        frozen += row["status"] == "frozen"
    assert frozen > 3


def test_pictures_are_drawn_at_their_true_time_and_once(
    drive: tuple[list[Seen], Truth, dict[str, FlatDrawer]],
) -> None:
    _, truth, drawers = drive
    for camera, drawer in drawers.items():
        true_ns = [
            r["true_ns"] for r in truth.timesteps.to_pylist() if r["camera"] == camera and r["belongs"]
        ]
        shift = drawer.times_s[0] - (true_ns[0] - START_NS) / 1e9
        assert shift > 0  # the world begins before the drive
        np.testing.assert_allclose(drawer.times_s, (np.array(true_ns) - START_NS) / 1e9 + shift, atol=1e-9)


def test_boxes_and_objects(drive: tuple[list[Seen], Truth, dict[str, FlatDrawer]]) -> None:
    _, truth, drawers = drive
    written = [r for r in truth.timesteps.to_pylist() if r["messages"]]
    boxes = truth.boxes.to_pylist()
    assert Counter((b["camera"], b["stamp_ns"]) for b in boxes) == {
        (r["camera"], r["stamp_ns"]): 2 for r in written
    }
    car, person = boxes[0], boxes[1]
    assert (car["object_id"], car["label"], person["object_id"], person["label"]) == (3, "car", 5, "person")
    assert [car[f"visible_{k}"] for k in ("x1", "y1", "x2", "y2")] == [12, 10, 24, 21]
    assert person["visible_x1"] is None
    assert (person["visible_fraction"], person["truncation"]) == (0.0, 0.25)
    world = FlatWorld()
    shift = drawers["cam_front"].times_s[0] - (boxes[0]["true_ns"] - START_NS) / 1e9
    for row in truth.objects.to_pylist()[::7]:
        time_s = (row["cycle_ns"] - START_NS) / 1e9 + shift
        thing = next(t for t in world.things(time_s, 1e9) if t.object_id == row["object_id"])
        base = world.ego(time_s).odom_SE3_base.inverse() @ thing.odom_SE3_object
        assert [row["x_m"], row["y_m"], row["z_m"]] == pytest.approx(base.translation_m.tolist(), abs=1e-6)
        assert [row["odom_x_m"], row["odom_y_m"]] == pytest.approx(
            thing.odom_SE3_object.translation_m[:2].tolist(), abs=1e-6
        )
        assert np.hypot(row["vx_mps"], row["vy_mps"]) == pytest.approx(row["odom_vx_mps"])
        assert row["yaw_rad"] == pytest.approx({3: 0.08, 5: -0.02}[row["object_id"]])
        assert row["ego_distance_m"] == pytest.approx(np.linalg.norm(base.translation_m), abs=1e-6)


def test_objects_beyond_the_radius_are_left_out(tmp_path: Path) -> None:
    settings = replace(SETTINGS, truth_radius_m=12.0, duration_s=0.3, faults=Faults())
    simulate(tmp_path / "out", settings, stage=flat_stage())
    assert set(load_truth(tmp_path / "out").objects["label"].to_pylist()) == {"car"}


def test_a_truth_of_later_days_and_a_broken_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="no truth here"):
        load_truth(tmp_path)
    simulate(tmp_path / "out", replace(SETTINGS, duration_s=0.1, faults=Faults()), stage=flat_stage())
    truth = tmp_path / "out" / "truth"
    meta = json.loads((truth / "meta.json").read_text())
    (truth / "boxes.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(LogError, match=r"boxes\.parquet"):
        load_truth(truth)
    (truth / "boxes.parquet").unlink()
    with pytest.raises(LogError, match=r"boxes\.parquet"):
        load_truth(truth)
    (truth / "meta.json").write_text(json.dumps({**meta, "schema": 99}))
    with pytest.raises(LogError, match="schema 99"):
        load_truth(truth)
    (truth / "meta.json").write_text("[]")
    with pytest.raises(LogError, match="not a truth"):
        load_truth(truth)


@pytest.mark.parametrize("container", ["bag", "sqlite3", "mcap", "foxglove"])
def test_memory_does_not_grow_with_the_drive(tmp_path: Path, container: str) -> None:
    def peak_mb(seconds: float) -> float:
        settings = SimulateSettings(
            preset="front",
            duration_s=seconds,
            size_px=(160, 120),
            image="rgb8",
            container=container,  # type: ignore[arg-type]
            ego_rate_hz=10,
            faults=Faults(late=0.1, bunch_ms=500),
        )
        simulate(tmp_path / f"{container}{seconds}", settings, stage=flat_stage())
        return tracemalloc.get_traced_memory()[1] / 1e6

    peak_mb(1)  # what is loaded and cached once
    peaks = []
    for seconds in (10, 60):
        tracemalloc.start()
        peaks.append(peak_mb(seconds))
        tracemalloc.stop()
    # The longer drive has 28 MB more of pictures, and at most a few hundred kilobytes of index more.
    assert peaks[1] < peaks[0] + 2.0, peaks
