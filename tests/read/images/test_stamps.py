"""Which stamps are believed: wild ones, steps, late messages, recorders that stall."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.read.images.stamps import FAR_NS, StampJudge
from perception_batch.types import EncodedFrame, StillPayload

T0 = 1_700_000_000_000_000_000
MS, SECOND = 1_000_000, 1_000_000_000
SKEW = 15 * MS


def frame(camera: str, stamp_ns: int, log_ns: int, n: int = 0) -> EncodedFrame:
    return EncodedFrame(camera, stamp_ns, log_ns, StillPayload(b"x"), "jpeg", n, 4, 4, stamp_ns)


def drive(cameras: Sequence[str] = ("a", "b"), n: int = 60, period_ms: int = 100) -> list[EncodedFrame]:
    """Cameras 20 ms after each other, in log order, all stamps right."""
    frames = [
        frame(name, T0 + i * period_ms * MS + k * 20 * MS, T0 + i * period_ms * MS + k * 20 * MS + SKEW, i)
        for i in range(n)
        for k, name in enumerate(cameras)
    ]
    return sorted(frames, key=lambda f: f.log_ns)


def moved(frames: list[EncodedFrame], camera: str, change: dict[int, int]) -> list[EncodedFrame]:
    """The stamps of one camera moved, by sequence number."""
    out = []
    for f in frames:
        by = change.get(f.sequence, 0) if f.camera == camera else 0
        out.append(frame(f.camera, f.stamp_ns + by, f.log_ns, f.sequence))
    return out


def judged(frames: list[EncodedFrame]) -> tuple[list[EncodedFrame], StampJudge]:
    judge = StampJudge(dict.fromkeys({f.camera for f in frames}, SKEW))
    out = [item for item in judge.judge(frames) if isinstance(item, EncodedFrame)]
    assert [(f.camera, f.sequence, f.log_ns) for f in out] == [
        (f.camera, f.sequence, f.log_ns) for f in frames
    ]  # nothing lost, nothing reordered
    return out, judge


def test_right_stamps_pass_untouched() -> None:
    frames = drive()
    out, judge = judged(frames)
    assert out == frames
    assert not judge.steps


@pytest.mark.parametrize("by_s", [3600, -3600, 20, -20, 80_000])
@pytest.mark.parametrize("at", [0, 1, 30, 59])
def test_a_single_wild_stamp_is_bad_and_alone_so(by_s: int, at: int) -> None:
    frames = drive()
    out, judge = judged(moved(frames, "b", {at: by_s * SECOND}))
    assert [(f.camera, f.sequence) for f in out if f.unused == "bad_stamp"] == [("b", at)]
    assert [f.stamp_ns for f in out if not f.unused] == [
        f.stamp_ns for f in frames if (f.camera, f.sequence) != ("b", at)
    ]
    assert not judge.steps


@pytest.mark.parametrize("by_ns", [3600 * SECOND, -3600 * SECOND, -3 * SECOND, -(2**32) * 1000, 37 * SECOND])
def test_a_clock_that_steps_and_stays_goes_on(by_ns: int) -> None:
    frames = drive()
    out, judge = judged(moved(frames, "b", dict.fromkeys(range(20, 60), by_ns)))
    assert [f.stamp_ns for f in out] == [f.stamp_ns for f in frames]
    assert all(not f.unused for f in out)
    assert [(s.camera, s.step_ns) for s in judge.steps] == [("b", by_ns)]


def test_two_steps_and_one_back() -> None:
    frames = drive()
    change = dict.fromkeys(range(10, 30), 50 * SECOND) | dict.fromkeys(range(30, 45), -70 * SECOND)
    out, judge = judged(moved(frames, "a", change))
    assert [f.stamp_ns for f in out] == [f.stamp_ns for f in frames]
    assert [s.step_ns for s in judge.steps] == [50 * SECOND, -120 * SECOND, 70 * SECOND]


def test_all_clocks_step_together_and_keep_their_phases_despite_jitter() -> None:
    frames = drive()
    jittered = [
        frame(f.camera, f.stamp_ns + (f.sequence * 7919 % 5 - 2) * MS, f.log_ns, f.sequence) for f in frames
    ]
    stepped = [
        frame(f.camera, f.stamp_ns - (3600 * SECOND if f.sequence >= 20 else 0), f.log_ns, f.sequence)
        for f in jittered
    ]
    out, judge = judged(stepped)
    assert len(judge.steps) == 2
    assert judge.steps[0].step_ns == judge.steps[1].step_ns
    assert abs(judge.steps[0].step_ns + 3600 * SECOND) <= 5 * MS
    assert all(abs(a.stamp_ns - b.stamp_ns) <= 5 * MS for a, b in zip(out, jittered, strict=True))


def test_a_recorder_that_stalls_makes_no_bad_stamps() -> None:
    """Nothing is written for 9 s, then all that waited at once."""
    stall_ns, resumed_ns = T0 + 3 * SECOND, T0 + 12 * SECOND
    frames = [
        frame(
            f.camera,
            f.stamp_ns,
            resumed_ns + i if stall_ns <= f.log_ns < resumed_ns else f.log_ns,
            f.sequence,
        )
        for i, f in enumerate(drive(n=200))
    ]
    out, judge = judged(frames)
    assert all(not f.unused for f in out)
    assert not judge.steps


def test_a_late_message_is_no_step() -> None:
    frames = drive()
    frames.insert(50, frames.pop(40))  # half a second late
    out, _ = judged(frames)
    assert out == frames


def test_a_camera_silent_in_doubt_does_not_hold_up_the_others() -> None:
    frames = [f for f in moved(drive(n=400), "b", {5: 999 * SECOND}) if f.camera == "a" or f.sequence <= 5]
    judge = StampJudge({"a": SKEW, "b": SKEW})
    asked = 0
    behind = []

    def source() -> object:
        nonlocal asked
        for f in frames:
            asked += 1
            yield f

    given = 0
    for _ in judge.judge(source()):  # type: ignore[arg-type]
        given += 1
        behind.append(asked - given)
    assert given == len(frames)
    assert max(behind) < 150


@settings(max_examples=150, deadline=None)
@given(
    wild=st.dictionaries(
        st.tuples(st.sampled_from("abc"), st.integers(0, 79)),
        st.integers(-(10**6), 10**6).filter(lambda s: abs(s) > 60).map(lambda s: s * SECOND),
        max_size=8,
    )
)
def test_right_stamps_survive_whatever_the_wild_ones_are(wild: dict[tuple[str, int], int]) -> None:
    """Scattered wild stamps with no three that agree in a row: exactly they are bad."""
    spread = {key: by for key, by in wild.items() if key[1] % 4 == 0}
    frames = drive("abc", 80)
    bad = [
        frame(f.camera, f.stamp_ns + spread.get((f.camera, f.sequence), 0), f.log_ns, f.sequence)
        for f in frames
    ]
    out, judge = judged(bad)
    assert {(f.camera, f.sequence) for f in out if f.unused} == set(spread)
    assert [f.stamp_ns for f in out if not f.unused] == [
        f.stamp_ns for f in frames if (f.camera, f.sequence) not in spread
    ]
    assert not judge.steps


def test_a_gap_in_a_drive_is_no_step() -> None:
    frames = [f for f in drive(n=400) if not 100 <= f.sequence < 300]
    out, judge = judged(frames)
    assert out == frames
    assert not judge.steps
    assert FAR_NS < 20 * SECOND
