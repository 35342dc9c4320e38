"""Which reference, which tolerance, and what is refused: settings held against what the sample shows."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from perception_batch.config import RequireConfig, SyncConfig
from perception_batch.errors import SyncError, printable
from perception_batch.sync.phase import IntArray, phases, robust_mean
from perception_batch.sync.sample import Sample

DEFAULT_TOLERANCE_NS = 100_000_000
_STAMPS_COMPARED = 2000  # of each camera, to choose the reference; more do not change a mean phase
_SLACK_NS = 2_000_000_000  # ranges that miss each other by less are a late start, not another clock


def check_trigger_topic(settings: SyncConfig, topics: Iterable[str]) -> str | None:
    """The topic that anchor ``trigger`` wants, None with another anchor.

    Args:
        settings: the `sync` section.
        topics: every topic of the log.

    Raises:
        SyncError: the log has no such topic.
    """
    wanted = settings.trigger_topic
    if settings.anchor != "trigger" or wanted is None:
        return None
    have = list(topics)
    if wanted not in have:
        near = difflib.get_close_matches(wanted, have, n=3, cutoff=0.4) or sorted(have)[:12]
        raise SyncError(
            f"sync.trigger_topic is {printable(wanted)}, which the log does not hold; "
            f"it has {', '.join(map(printable, near)) or 'no topic'}: set one of its topics, or another sync.anchor"
        )
    return wanted


def check_settings(settings: SyncConfig, names: Sequence[str], known: Collection[str]) -> None:
    """Names and numbers of cameras that the settings ask for.

    Raises:
        SyncError: a camera that is not there, or more than there are.
    """
    have = f"the cameras are {', '.join(map(printable, names))}"
    for name in settings.offsets_ms:
        if name not in names and name not in known:
            raise SyncError(f"sync.offsets_ms names {printable(name)!r}; {have}")
    if not isinstance(settings.policy, RequireConfig):
        return
    need = settings.policy.require
    if isinstance(need, int):
        if need > len(names):
            raise SyncError(f"sync.policy requires {need} cameras of {len(names)}; {have}")
        return
    for name in need:
        if name not in names:
            why = "is not selected" if name in known else "is no camera of the log"
            raise SyncError(f"sync.policy requires {printable(name)!r}, which {why}; {have}")


def choose_reference(samples: Mapping[str, Sample], wanted: str) -> str:
    """The named camera, or of the fast and complete ones that with the smallest largest phase to the others.

    Raises:
        SyncError: the named one is unknown or has no frames, or there are no frames at all.
    """
    seen = [name for name, sample in samples.items() if len(sample)]
    if wanted != "auto":
        if wanted not in samples:
            raise SyncError(
                f"sync.reference is {printable(wanted)!r}; the cameras are {', '.join(map(printable, samples))}"
            )
        if wanted not in seen:
            raise SyncError(
                f"sync.reference {printable(wanted)!r} has no frame in the sampled part of the log; set one of "
                f"{', '.join(map(printable, seen)) or 'the others'}, or auto"
            )
        return wanted
    if not seen:
        raise SyncError("no camera has a frame in the sampled part of the log: nothing to synchronise")
    most = max(len(samples[name]) for name in seen)
    # One frame more or less is the sample's edge; a slower or lossy camera has clearly fewer than the most.
    complete = [name for name in seen if len(samples[name]) >= 0.8 * most - 1]
    heads = {name: samples[name].head(_STAMPS_COMPARED) for name in seen}

    def cost(name: str) -> tuple[int, int, str]:
        own = heads[name]
        found = [
            abs(robust_mean(phases(c.stamps_ns, own.stamps_ns, c.period_ns, own.period_ns)[1]))
            for other, c in heads.items()
            if other != name
        ]
        return round(max(found, default=0) / 1e6), -len(samples[name]), name

    return min(complete, key=cost)


def check_overlap(
    samples: Mapping[str, Sample], reference: str, settings: SyncConfig, train: Sample
) -> list[str]:
    """Notes on cameras that begin later than the others.

    Raises:
        SyncError: what was recorded at the same time has stamps of different times, or there are no triggers.
    """
    notes = []
    if settings.anchor == "trigger" and not len(train):
        raise SyncError(
            f"sync.trigger_topic {printable(settings.trigger_topic)} has no message with a stamp in the sampled "
            "part of the log; set another topic, or another sync.anchor"
        )
    others = {f"camera {printable(name)}": sample for name, sample in samples.items() if name != reference}
    against = f"the reference {printable(reference)}"
    if settings.anchor == "trigger":
        others[against] = samples[reference]
        against = f"sync.trigger_topic {printable(settings.trigger_topic)}"
    for who, sample in others.items():
        apart = _apart(sample.stamps_ns, train.stamps_ns)
        if len(sample) < 2 or len(train) < 2 or abs(apart) <= _SLACK_NS + 2 * sample.period_ns:
            continue
        recorded = _apart(sample.logs_ns, train.logs_ns)
        way = "after" if apart > 0 else "before"
        if abs(recorded) > _SLACK_NS:
            notes.append(
                f"{who}: its frames in the sample are {abs(apart) / 1e9:.1f} s {way} those of {against}"
            )
            continue
        shift_ms = (_middle(sample.delays_ns) - _middle(train.delays_ns)) / 1e6
        raise SyncError(
            f"{who} and {against} were recorded at the same time, but have no time in common: its stamps are "
            f"{abs(apart) / 1e9:.1f} s {way} the other's. Set cameras.<name>.stamp_offset_ms to about {shift_ms:.0f} "
            "for it, or read.clock: log, or leave it out with --cameras"
        )
    return notes


def _middle(values: IntArray) -> int:
    return int(np.sort(values)[len(values) // 2])


def _apart(a: IntArray, b: IntArray) -> int:
    """How far the range of `a` lies after that of `b` (before: negative); 0 where they overlap or one is empty."""
    if not len(a) or not len(b):
        return 0
    if a.min() > b.max():
        return int(a.min() - b.max())
    return int(a.max() - b.min()) if a.max() < b.min() else 0


def grid_step(settings: SyncConfig, reference_period_ns: int) -> int:
    """Period of the grid: as set, or the reference's; a rate within half a percent of a whole one is meant to be it."""
    if settings.grid_hz != "auto":
        return max(1, round(1e9 / settings.grid_hz))
    if not reference_period_ns:
        return 1_000_000_000
    rate = 1e9 / reference_period_ns
    whole = round(rate)
    return round(1e9 / whole) if whole and abs(rate / whole - 1) < 0.005 else reference_period_ns


def tolerance(settings: SyncConfig, step_ns: int, reference: str, reference_period_ns: int) -> int:
    """The tolerance, ns: as set, or from the timesteps' period.

    A grid's windows take all that they cover, but a grid much slower than the cameras only what is near.

    Raises:
        SyncError: it is not below half that period.
    """
    whole = (
        settings.anchor == "grid"
    )  # its windows are half a period to either side, and leave no frame between them
    if settings.tolerance_ms == "auto":
        if whole:
            return min(step_ns // 2, max(DEFAULT_TOLERANCE_NS, (reference_period_ns or step_ns) // 2))
        auto = round(0.45 * step_ns)
        return min(auto, DEFAULT_TOLERANCE_NS) if step_ns else DEFAULT_TOLERANCE_NS
    wanted = round(settings.tolerance_ms * 1e6)
    if step_ns and (2 * wanted > step_ns or (2 * wanted == step_ns and not whole)):
        whose = {
            "grid": "period of the grid",
            "trigger": f"median period of {printable(settings.trigger_topic)}",
        }.get(settings.anchor, f"median period of the reference {printable(reference)}")
        raise SyncError(
            f"sync.tolerance_ms is {settings.tolerance_ms:g}; it must stay below {step_ns / 2e6:.1f}, half the "
            f"{whose}, or a frame could belong to two timesteps"
        )
    return wanted
