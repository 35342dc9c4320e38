"""Offsets, drift and jumps from samples with loss, jitter and wild stamps."""

from __future__ import annotations

import numpy as np
import pytest
from sync.stamp_drive import MS, T0, TOPIC, frame, make_drive, plan_of, run, samples_of

from perception_batch.config import SyncConfig
from perception_batch.errors import SyncError
from perception_batch.simulate.settings import Faults, SimulateSettings
from perception_batch.simulate.timing import plan as fire
from perception_batch.sync import Synchronizer, check_trigger_topic, plan_sync
from perception_batch.sync.phase import fit_line


def simulated(seed: int, drift_ppm: dict[str, float]) -> dict[str, list[tuple[int, int]]]:
    """A minute at 10 Hz: 42 ms of stagger, 5 ms of jitter, 5 % lost."""
    faults = Faults(stagger_ms=42, jitter_ms=5, drop=0.05, clock_drift_ppm=drift_ppm)
    out: dict[str, list[tuple[int, int]]] = {}
    for cycle in fire(SimulateSettings(duration_s=60, seed=seed, faults=faults)):
        for shot in cycle.shots:
            if shot.log_ns:
                out.setdefault(shot.camera, []).append((shot.stamp_ns, shot.log_ns))
    return out


@pytest.mark.parametrize("seed", range(5))
def test_offsets_within_a_millisecond_and_drift_within_5_ppm(seed: int) -> None:
    names = sorted(simulated(seed, {}))
    true = {names[1]: 20.0, names[4]: -35.0}
    plan = plan_sync(simulated(seed, true), SyncConfig(drift="correct"), names)
    order = list(SimulateSettings().cameras)
    for name in names:
        phase_ms = (order.index(name) - order.index(plan.reference)) * 42 / 5
        assert abs(plan.offset_ns[name] / MS - phase_ms) < 1.0
        drift = true.get(name, 0.0) - true.get(plan.reference, 0.0)
        assert abs(plan.drift_ppm[name] - drift) < 5.0
        assert plan.corrected_ppm[name] == 0 or name in true or plan.reference in true


@pytest.mark.parametrize("seed", range(5))
def test_drift_shows_in_the_phase_alone(seed: int) -> None:
    """Where log times say nothing of the clock, because the driver stamps by the recorder's."""
    drive = make_drive(cameras=3, cycles=600, jitter_ms=2, drop=0.05, seed=seed, drift_ppm={"cam_2": 25.0})
    samples = {n: [(s, s + 15 * MS) for s, _ in own] for n, own in samples_of(drive.frames).items()}
    plan = plan_sync(samples, SyncConfig(reference="cam_0"))
    assert abs(plan.drift_ppm["cam_2"] - 25) < 5
    assert abs(plan.drift_ppm["cam_1"]) < 5
    assert plan.drift_sd_ppm["cam_2"] < 2.5
    assert plan.corrected_ppm == {"cam_0": 0, "cam_1": 0, "cam_2": 0}


def test_over_an_hour_drift_must_be_corrected_and_the_plan_says_so() -> None:
    """20 ppm are 72 ms, most of a period: a constant offset from the first minute then groups other frames."""
    drive = make_drive(cameras=2, cycles=36_000, jitter_ms=1, seed=1, drift_ppm={"cam_1": 20.0})
    first_minute = {n: own[:600] for n, own in samples_of(drive.frames).items()}
    hour = 3600 * 10**9
    plain = plan_sync(first_minute, SyncConfig(reference="cam_0"), duration_ns=hour)
    assert any("cam_1: its clock runs +" in note and "sync.drift: correct" in note for note in plain.notes)
    wrong = run(drive.frames, Synchronizer(plain, SyncConfig())).members()
    assert sum(m not in drive.truth[-200:] for m in wrong[-100:]) > 90
    config = SyncConfig(drift="correct", reference="cam_0")
    plan = plan_sync(first_minute, config, duration_ns=hour)
    assert run(drive.frames, Synchronizer(plan, config)).members() == drive.truth
    # Phases that went through half a period are followed, not folded.
    whole = plan_sync(samples_of(drive.frames), config)
    assert whole.drift_ppm["cam_1"] == pytest.approx(20, abs=0.1)
    assert run(drive.frames, Synchronizer(whole, config)).members() == drive.truth


def test_a_short_sample_claims_no_drift() -> None:
    drive = make_drive(cameras=3, cycles=30, jitter_ms=10, seed=1)
    samples = {n: [(s, s + 15 * MS) for s, _ in own] for n, own in samples_of(drive.frames).items()}
    plan = plan_sync(samples, SyncConfig(drift="correct"), duration_ns=3600 * 10**9)
    assert set(plan.corrected_ppm.values()) == {0.0}
    assert any("cannot be told from this sample" in note for note in plan.notes)


def test_jumps_outliers_and_holes_do_not_bend_the_line() -> None:
    rng = np.random.default_rng(4)
    at = T0 + np.sort(rng.choice(6000, 3000, replace=False)).astype(np.int64) * 10 * MS
    y = 7e6 + (at - T0) * 12e-6 + rng.normal(0, 0.3e6, len(at))
    y[at >= T0 + 25_000 * MS] += 8e6
    y[rng.random(len(y)) < 0.02] += 60e6
    line = fit_line(at, y)
    assert abs(line.slope_ppm - 12) < 4 * line.sd_ppm < 4
    assert len(line.jumps) == 1
    when, size = line.jumps[0]
    assert abs(when - T0 - 25_000 * MS) < 1500 * MS
    assert abs(size - 8e6) < 0.3e6


def test_a_camera_whose_clock_jumps_is_noted() -> None:
    drive = make_drive(cameras=3, cycles=600, jitter_ms=2, seed=1)
    samples = samples_of(drive.frames)
    samples["cam_1"] = [(s + (12 * MS if s > T0 + 20_000 * MS else 0), log) for s, log in samples["cam_1"]]
    plan = plan_sync(samples, SyncConfig(reference="cam_0"))
    assert any("cam_1: its phase to cam_0 jumps by +1" in note for note in plan.notes)
    assert abs(plan.drift_ppm["cam_1"]) < 5


def test_configured_offsets_are_taken_instead_and_move_no_stamp() -> None:
    """A stagger beyond half a period: by itself the estimate takes the shorter way round."""
    drive = make_drive(cameras=2, stagger_ms=70, jitter_ms=2)
    plan = plan_of(drive, SyncConfig(reference="cam_0"))
    assert round(plan.offset_ns["cam_1"] / MS) == -30
    config = SyncConfig(reference="cam_0", offsets_ms={"cam_0": 5, "cam_1": 75})
    plan = plan_of(drive, config)
    assert plan.offset_ns == {"cam_0": 0, "cam_1": 70 * MS}
    grouped = run(drive.frames, Synchronizer(plan, config))
    assert grouped.members() == drive.truth


def test_a_phase_of_half_a_period_is_said_to_be_either() -> None:
    plan = plan_of(make_drive(cameras=2, stagger_ms=47, jitter_ms=1), SyncConfig(reference="cam_0"))
    assert any("sync.offsets_ms.cam_1 settles it" in note for note in plan.notes)


# ---------------------------------------------------------------------- what is refused


def test_clocks_of_other_days_are_refused_with_what_to_set() -> None:
    here = [frame("a", T0 + i * 100 * MS) for i in range(50)]
    there = [frame("b", T0 + (i * 100 - 3_600_000) * MS, T0 + i * 100 * MS + 15 * MS) for i in range(50)]
    with pytest.raises(SyncError) as caught:
        plan_sync(samples_of(here + there), SyncConfig(reference="a"))
    said = str(caught.value)
    assert "no time in common" in said
    assert "stamp_offset_ms to about 3600000" in said
    assert "\n" not in said


def test_a_camera_that_begins_later_is_a_note() -> None:
    frames = [frame("a", T0 + i * 100 * MS) for i in range(50)]
    frames += [frame("b", T0 + i * 100 * MS + 60_000 * MS) for i in range(10)]
    plan = plan_sync(samples_of(frames), SyncConfig())
    assert any("after those of" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SyncConfig(anchor="grid", grid_hz=20, tolerance_ms=26), "below 25.0, half the period of the grid"),
        (
            SyncConfig(anchor="tightest", tolerance_ms=50),
            "below 50.0, half the median period of the reference",
        ),
        (SyncConfig(anchor="trigger", trigger_topic=TOPIC, tolerance_ms=50), "below 50.0, .*/trigger"),
        (SyncConfig(reference="roof"), "sync.reference is 'roof'; the cameras are cam_0, cam_1"),
    ],
)
def test_what_cannot_work_is_refused(config: SyncConfig, message: str) -> None:
    with pytest.raises(SyncError, match=message):
        plan_of(make_drive(cameras=2, jitter_ms=0), config)


def test_an_unknown_or_silent_trigger_topic_is_refused() -> None:
    config = SyncConfig(anchor="trigger", trigger_topic="/camera_triger")
    topics = ["/camera_trigger", "/lidar/points", "/tf"]
    with pytest.raises(SyncError, match="which the log does not hold; it has /camera_trigger"):
        check_trigger_topic(config, topics)
    assert check_trigger_topic(SyncConfig(anchor="trigger", trigger_topic="/tf"), topics) == "/tf"
    assert check_trigger_topic(SyncConfig(), topics) is None
    with pytest.raises(SyncError, match="has no message with a stamp"):
        plan_sync(samples_of(make_drive().frames), config)
