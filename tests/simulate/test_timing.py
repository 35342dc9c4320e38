from __future__ import annotations

from dataclasses import replace
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.errors import ConfigError
from perception_batch.simulate.settings import START_NS, Faults, Freeze, Jump, SimulateSettings
from perception_batch.simulate.timing import Cycle, LogOrder, Recorder, earliest_log_ns, plan

PERIOD_NS = 100_000_000

ALL = Faults(
    stagger_ms=42,
    jitter_ms=3,
    exposure_offset_ms={"cam_front": 4.0},
    drop=0.05,
    drop_burst=3,
    duplicate=0.1,
    late=0.1,
    late_ms=350,
    log_jitter_ms=4,
    bunch_ms=400,
    bunch_every_s=2.5,
    clock_jump={"cam_back": Jump(-75, 3.0)},
    clock_drift_ppm={"cam_back_left": 500.0},
    late_start_s={"cam_back_right": 1.05},
    freeze={"cam_front_left": Freeze(2.0, 0.7)},
)


NONE = Faults()


def drive(faults: Faults = NONE, **options: object) -> list[Cycle]:
    return list(plan(SimulateSettings(faults=faults, **options)))  # type: ignore[arg-type]


def test_without_faults_every_camera_fires_with_the_trigger() -> None:
    cycles = drive(duration_s=3.0)
    assert len(cycles) == 30
    for i, cycle in enumerate(cycles):
        assert cycle.cycle_ns == START_NS + i * PERIOD_NS
        assert not cycle.faults
        for shot in cycle.shots:
            assert shot.stamp_ns == shot.true_ns == cycle.cycle_ns
            assert shot.log_ns == cycle.cycle_ns + 5_000_000
            assert (shot.status, shot.messages) == ("ok", 1)


def test_the_duration_is_half_open_and_has_one_cycle_at_least() -> None:
    assert len(drive(duration_s=1.0)) == 10
    assert len(drive(duration_s=1.01)) == 11
    assert len(drive(duration_s=0.01, rate_hz=0.1)) == 1


def test_the_same_seed_gives_the_same_plan_and_another_one_another() -> None:
    assert drive(ALL, seed=3) == drive(ALL, seed=3)
    assert drive(ALL, seed=3) != drive(ALL, seed=4)


@pytest.mark.parametrize("off", ["drop", "duplicate", "late", "log_jitter_ms"])
def test_one_fault_switched_off_moves_no_other(off: str) -> None:
    with_all, without = drive(ALL), drive(replace(ALL, **{off: 0.0}))
    for a, b in zip(with_all, without, strict=True):
        for x, y in zip(a.shots, b.shots, strict=True):
            assert x.stamp_ns == y.stamp_ns
            if x.status == y.status == "ok":
                assert x.true_ns == y.true_ns
            if off != "drop":
                assert x.status == y.status


def test_stagger_is_even_and_jitter_scatters_about_it() -> None:
    cycles = drive(Faults(stagger_ms=50, jitter_ms=2), duration_s=60.0)
    for number in range(6):
        delays = [(c.shots[number].true_ns - c.cycle_ns) / 1e6 for c in cycles]
        mean = sum(delays) / len(delays)
        spread = (sum((d - mean) ** 2 for d in delays) / len(delays)) ** 0.5
        assert mean == pytest.approx(10 * number, abs=0.4)
        assert 1.7 < spread < 2.3
        assert max(abs(d - 10 * number) for d in delays) <= 6.0


def test_exposure_offset_moves_the_light_and_not_the_stamp() -> None:
    for cycle in drive(Faults(exposure_offset_ms={"cam_back": 7.5})):
        for shot in cycle.shots:
            assert shot.true_ns - shot.stamp_ns == (7_500_000 if shot.camera == "cam_back" else 0)


def test_drops_come_as_often_and_in_runs_as_long_as_asked() -> None:
    cycles = drive(Faults(drop=0.02, drop_burst=5), duration_s=600.0)
    runs = []
    for number in range(6):
        lost = [c.shots[number].status == "dropped" for c in cycles]
        runs += [len(list(group)) for gone, group in groupby(lost) if gone]
    assert sum(runs) / len(runs) == pytest.approx(5, rel=0.2)
    assert len(runs) == pytest.approx(6 * 6000 * 0.02 * 0.91, rel=0.2)  # 9 % of the time a run is on already


def test_a_dropped_picture_is_not_in_the_log() -> None:
    cycles = drive(Faults(drop=1.0))
    assert {(s.status, s.messages, s.log_ns) for c in cycles for s in c.shots} == {("dropped", 0, 0)}


def test_a_clock_that_jumps_and_one_that_drifts() -> None:
    cycles = drive(
        Faults(clock_jump={"cam_front": Jump(-2000.5, 5)}, clock_drift_ppm={"cam_back": -100}), duration_s=10
    )
    for cycle in cycles:
        shots = {s.camera: s for s in cycle.shots}
        since = cycle.cycle_ns - START_NS
        assert shots["cam_front"].stamp_ns - cycle.cycle_ns == (-2_000_500_000 if since >= 5 * 10**9 else 0)
        assert shots["cam_back"].stamp_ns - cycle.cycle_ns == -since // 10_000
        assert all(s.true_ns == cycle.cycle_ns for s in cycle.shots)  # true time knows no clock
    assert [f.kind for c in cycles for f in c.faults] == ["clock_drift", "clock_jump"]


def test_a_late_start_and_a_freeze() -> None:
    faults = Faults(late_start_s={"cam_back": 0.75}, freeze={"cam_front": Freeze(1.0, 0.5)})
    cycles = drive(faults, duration_s=2)
    back = [c.shots[3] for c in cycles]
    assert [s.status for s in back] == ["not_started"] * 8 + ["ok"] * 12
    front = [c.shots[0] for c in cycles]
    assert [i for i, s in enumerate(front) if s.status == "frozen"] == [10, 11, 12, 13, 14]
    assert {s.true_ns for s in front[9:15]} == {front[9].true_ns}
    assert [s.stamp_ns for s in front] == [c.cycle_ns for c in cycles]
    values = [f.value for c in cycles for f in c.faults if f.kind == "freeze"]
    assert values == [PERIOD_NS * n for n in range(1, 6)]


def test_a_camera_that_freezes_before_its_first_picture_has_one_to_repeat() -> None:
    front = [c.shots[0] for c in drive(Faults(freeze={"cam_front": Freeze(0, 99)}), duration_s=1)]
    assert [s.status for s in front] == ["ok"] + ["frozen"] * 9


def test_late_and_duplicate_messages_keep_their_stamp() -> None:
    cycles = drive(Faults(late=0.3, late_ms=400, duplicate=0.3), duration_s=20)
    late = {(f.camera, f.cycle): f for c in cycles for f in c.faults if f.kind == "late"}
    twice = {(f.camera, f.cycle): f for c in cycles for f in c.faults if f.kind == "duplicate"}
    assert late and twice
    for cycle in cycles:
        for shot in cycle.shots:
            key = (shot.camera, cycle.index)
            extra = int(late[key].value) if key in late else 0
            assert extra == 0 or 200e6 <= extra <= 400e6
            assert shot.log_ns == shot.true_ns + 5_000_000 + extra
            assert shot.messages == 1 + (key in twice)
            if key in twice:
                assert twice[key].log_ns == shot.duplicate_log_ns == shot.log_ns + int(twice[key].value)
                assert shot.duplicate_log_ns > shot.log_ns


@given(st.lists(st.integers(0, 20 * 10**9), min_size=2, max_size=50), st.integers(0, 2000))
def test_the_recorder_keeps_the_order_of_arrival(arrivals: list[int], bunch_ms: int) -> None:
    recorder = Recorder.of(Faults(bunch_ms=bunch_ms, bunch_every_s=2.5))
    arrivals = sorted({START_NS + a for a in arrivals})
    logged = [recorder.log_ns(a) for a in arrivals]
    assert logged == sorted(logged)
    for arrival, log_ns in zip(arrivals, logged, strict=True):
        phase = (arrival - START_NS) % (2500 * 10**6)
        stopped = arrival - START_NS >= 2500 * 10**6 and phase < bunch_ms * 10**6
        assert log_ns > arrival if stopped else log_ns == arrival


faults_strategy = st.builds(
    Faults,
    stagger_ms=st.floats(0, 90),
    jitter_ms=st.floats(0, 12.5),
    exposure_offset_ms=st.dictionaries(st.sampled_from(["cam_front", "cam_back"]), st.floats(-25, 25)),
    drop=st.floats(0, 1),
    drop_burst=st.floats(1, 20),
    duplicate=st.floats(0, 1),
    late=st.floats(0, 1),
    late_ms=st.floats(0, 2000),
    log_delay_ms=st.floats(0, 500),
    log_jitter_ms=st.floats(0, 100),
    bunch_ms=st.floats(0, 900),
    bunch_every_s=st.floats(1, 3),
    clock_drift_ppm=st.dictionaries(st.sampled_from(["cam_front", "cam_back"]), st.floats(-10_000, 10_000)),
)


@settings(max_examples=40)
@given(faults_strategy, st.integers(0, 2**32))
def test_no_message_is_ever_logged_before_what_was_written_already(faults: Faults, seed: int) -> None:
    options = SimulateSettings(faults=faults, seed=seed, duration_s=3.0)
    order: LogOrder[str] = LogOrder()
    written: list[int] = []
    expected = 0
    for cycle in plan(options):
        horizon = earliest_log_ns(options, cycle.cycle_ns)
        for shot in cycle.shots:
            for log_ns in (shot.log_ns, shot.duplicate_log_ns)[: shot.messages]:
                assert log_ns >= horizon
                order.add(log_ns, shot.camera)
                expected += 1
        written += [log_ns for log_ns, _ in order.until(horizon)]
    written += [log_ns for log_ns, _ in order.until(2**62)]
    assert written == sorted(written)
    assert len(written) == expected


@settings(max_examples=40)
@given(faults_strategy, st.integers(0, 2**32))
def test_stamps_of_a_camera_rise(faults: Faults, seed: int) -> None:
    cycles = drive(faults, seed=seed, duration_s=2.0)
    for number in range(6):
        stamps = [c.shots[number].stamp_ns for c in cycles]
        assert stamps == sorted(set(stamps))


@pytest.mark.parametrize(
    "faults",
    [
        Faults(drop=-0.1),
        Faults(drop=float("nan")),
        Faults(stagger_ms=100),
        Faults(jitter_ms=50),
        Faults(late_ms=1e9),
        Faults(bunch_ms=1500, bunch_every_s=1),
        Faults(freeze={"cam_up": Freeze(1, 1)}),
        Faults(clock_jump={"cam_front": Jump(1, 99)}),
        Faults(clock_jump={"cam_front": Jump(float("inf"), 1)}),
        Faults(exposure_offset_ms={"cam_front": 60}),
        Faults(late_start_s={"cam_front": -1}),
        Faults(drop_burst=0.5),
    ],
)
def test_impossible_faults_are_refused_with_what_is_allowed(faults: Faults) -> None:
    with pytest.raises(ConfigError, match=r"allowed|these are"):
        SimulateSettings(faults=faults)
