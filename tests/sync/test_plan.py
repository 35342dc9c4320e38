"""The plan: reference, offsets, jitter and tolerance from a sample of stamps."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.config import SyncConfig
from perception_batch.errors import SyncError
from perception_batch.sync import plan_sync
from perception_batch.sync.phase import period_ns

MS = 1_000_000
T0 = 1_700_000_000_000_000_000
Samples = dict[str, list[tuple[int, int]]]


def samples_of(
    stagger_ms: dict[str, float], n: int = 100, jitter_ms: float = 4, drop: float = 0.0, seed: int = 0
) -> Samples:
    rng = random.Random(seed)
    out: Samples = {}
    for name, phase in stagger_ms.items():
        stamps = [
            T0 + round((i * 100 + phase + rng.uniform(-jitter_ms, jitter_ms)) * MS)
            for i in range(n)
            if rng.random() >= drop
        ]
        out[name] = [(s, s + 15 * MS) for s in stamps]
    return out


@given(seed=st.integers(0, 1000), phase=st.floats(-49, 49), drop=st.floats(0, 0.2))
@settings(max_examples=60, deadline=None)
def test_offsets_are_found_within_a_millisecond(seed: int, phase: float, drop: float) -> None:
    plan = plan_sync(
        samples_of({"a": 0, "b": phase}, jitter_ms=2, drop=drop, seed=seed), SyncConfig(reference="a")
    )
    error = plan.offset_ns["b"] / MS - phase
    assert min(abs(error), abs(abs(error) - 100)) < 1.0  # half a period away, both signs are right
    assert plan.jitter_ns["b"] < 3 * MS


def test_the_reference_is_the_camera_in_the_middle() -> None:
    plan = plan_sync(samples_of({"f": 0, "g": 10, "h": 20, "i": 30, "j": 42}, jitter_ms=0.2), SyncConfig())
    assert plan.reference == "h"
    assert round(plan.offset_ns["j"] / MS) == 22
    assert plan.tolerance_ns < plan.period_ns["h"] / 2


def test_a_camera_with_many_losses_is_not_the_reference() -> None:
    samples = samples_of({"left": -20, "middle": 0, "right": 20}, jitter_ms=0)
    samples["middle"] = samples["middle"][:30]
    assert plan_sync(samples, SyncConfig()).reference != "middle"


def test_the_fastest_camera_makes_the_timesteps() -> None:
    samples = {
        "slow": [(T0 + i * 100 * MS, T0 + i * 100 * MS) for i in range(10)],
        "fast": [(T0 + i * 33 * MS, T0 + i * 33 * MS) for i in range(30)],
    }
    assert plan_sync(samples, SyncConfig()).reference == "fast"


def test_rates_that_do_not_fit_are_grouped_without_an_offset_and_noted() -> None:
    samples = {
        "a": [(T0 + i * 100 * MS, T0 + i * 100 * MS) for i in range(100)],
        "b": [(T0 + round(i * 83.7 * MS), T0 + round(i * 83.7 * MS)) for i in range(100)],
    }
    plan = plan_sync(samples, SyncConfig(reference="a"))
    assert plan.offset_ns["b"] == 0
    assert any("no constant phase" in note for note in plan.notes)


def test_single_frames_have_100_ms_and_a_note() -> None:
    plan = plan_sync({"a": [(T0, T0)], "b": [(T0 + 42 * MS, T0)]}, SyncConfig())
    assert plan.tolerance_ns == 100 * MS
    assert set(plan.offset_ns.values()) == {0}
    assert any("single frame" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SyncConfig(tolerance_ms=50), "it must stay below 50.0"),
        (SyncConfig(tolerance_ms=500), "it must stay below 50.0"),
        (SyncConfig(reference="top"), "the cameras are a, b"),
    ],
)
def test_settings_that_cannot_work_are_refused(config: SyncConfig, message: str) -> None:
    with pytest.raises(SyncError, match=message):
        plan_sync(samples_of({"a": 0, "b": 10}, jitter_ms=0), config)


def test_no_frames_at_all() -> None:
    with pytest.raises(SyncError, match="nothing to synchronise"):
        plan_sync({"a": [], "b": []}, SyncConfig())


def test_one_wild_stamp_does_not_set_the_latency() -> None:
    samples = samples_of({"a": 0, "b": 0}, jitter_ms=0)
    samples["a"][5] = (T0 - 7_200_000 * MS, samples["a"][5][1])
    assert plan_sync(samples, SyncConfig()).latency_ns == 15 * MS


def test_the_period_of_a_train_that_jitters() -> None:
    rng = np.random.default_rng(3)
    stamps = np.arange(200) * 100_000_000 + rng.normal(0, 7e6, 200).astype(np.int64)
    stamps = np.delete(stamps, rng.choice(200, 12, replace=False))
    stamps[120:] += 1_234_000_000  # and a jump
    assert abs(period_ns(np.sort(stamps)) - 100_000_000) < 100_000
    assert period_ns(np.arange(100) * 33_366_700) == 33_366_700
    assert period_ns(np.zeros(50, np.int64)) == 0
