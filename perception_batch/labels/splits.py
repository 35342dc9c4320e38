"""Which images train, validate and test: whole groups, so that nothing seen in one split is seen in another.

With three groups or more each goes to one split, the largest first, where the split then lacks least of what it should have of
every class. With fewer, each drive is cut into three stretches of time, and what lies within the guard time of a cut is
left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perception_batch.labels.label_settings import LabelSettings
from perception_batch.labels.run_rows import FloatArray, IntArray
from perception_batch.labels.selection import GUARD, Images

FEWEST_GROUPS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Where the images went."""

    split: IntArray
    """(N,) 0 train, 1 val, 2 test."""
    group: IntArray
    """(N,) place in `groups`."""
    groups: tuple[str, ...]
    """Names."""
    notes: tuple[str, ...]
    """What the card must say."""


def split_images(images: Images, group: IntArray, names: Sequence[str], settings: LabelSettings) -> Split:
    """Give every image a split; images near a cut are left out.

    Args:
        images: all of them; those that are out already do not count.
        group: (N,) place in `names`.
        names: of the groups.
        settings: shares, guard time and seed.
    """
    kept = images.kept
    present = np.unique(group[kept])
    wanted = [i for i, share in enumerate(settings.split) if share > 0]
    if len(wanted) == 1:
        return Split(
            np.full(len(images), wanted[0], np.int64),
            group,
            tuple(names),
            ("everything is in one split, as asked",),
        )
    weights = np.concatenate([images.accepted, np.ones((len(images), 1))], axis=1).astype(np.float64)
    if len(present) >= FEWEST_GROUPS:
        totals = np.zeros((len(names), weights.shape[1]))
        np.add.at(totals, group[kept], weights[kept])
        split = _assign(totals, present, wanted, settings)[group]
        notes: list[str] = []
        if settings.group_by == "day" and _guard_changes(images, split, settings.guard_s):
            notes.append(
                f"images within {settings.guard_s / 2:g} s of a midnight that parts two splits are left out"
            )
        if settings.group_by == "place":
            notes.append(
                f"squares of {settings.place_m:g} m touch: an image near an edge sees into the next square, which may be in "
                "another split"
            )
        return Split(split, group, tuple(names), tuple(notes))
    return _by_time(images, group, names, weights, wanted, settings)


def _guard_changes(images: Images, split: IntArray, guard_s: float) -> bool:
    """Leave out the images of a run nearer than half of `guard_s` to where it goes over to another split; whether any were."""
    half_ns = round(guard_s * 1e9 / 2)
    found = False
    for run in np.unique(images.run[images.kept]).tolist():
        own = np.flatnonzero((images.run == run) & images.kept)
        own = own[np.argsort(images.stamp_ns[own], kind="stable")]
        stamp = images.stamp_ns[own]
        for change in np.flatnonzero(np.diff(split[own])).tolist():
            middle = (int(stamp[change]) + int(stamp[change + 1])) // 2
            near = own[np.abs(stamp - middle) < half_ns]
            images.out[near] = GUARD
            found = found or len(near) > 0
    return found


def _assign(
    totals: FloatArray, present: IntArray, wanted: Sequence[int], settings: LabelSettings
) -> IntArray:
    """(groups,) the split of each."""
    lot = np.random.default_rng(settings.seed).random(len(totals))
    order = sorted(present.tolist(), key=lambda g: (-totals[g, -1], lot[g]))
    goal = np.outer(settings.split, totals.sum(axis=0))
    scale = np.maximum(totals.sum(axis=0), 1)
    have = np.zeros_like(goal)
    chosen = np.zeros(len(totals), np.int64)
    empty = set(wanted)
    for left, g in zip(range(len(order), 0, -1), order, strict=True):
        choices = sorted(empty) if left <= len(empty) else wanted
        costs = {}
        for s in choices:
            after = have.copy()
            after[s] += totals[g]
            costs[s] = float(
                (np.maximum(after - goal, 0) / scale).sum() + (np.abs(after - goal) / scale).sum() * 1e-3
            )
        best = min(choices, key=lambda s: (costs[s], s))
        chosen[g] = best
        have[best] += totals[g]
        empty.discard(best)
    return chosen


def _by_time(
    images: Images,
    group: IntArray,
    names: Sequence[str],
    weights: FloatArray,
    wanted: Sequence[int],
    settings: LabelSettings,
) -> Split:
    guard_ns = round(settings.guard_s * 1e9)
    split, block = np.zeros(len(images), np.int64), np.zeros(len(images), np.int64)
    out_names: list[str] = []
    kept = images.kept
    short: list[str] = []
    for run in np.unique(images.run).tolist():
        own = np.flatnonzero((images.run == run) & kept)
        base = len(out_names)
        name = names[int(group[np.flatnonzero(images.run == run)[0]])]
        out_names += [f"{name}#{run}:{word}" for word in ("train", "val", "test")]
        block[images.run == run] = base
        if not len(own):
            continue
        first, last = int(images.stamp_ns[own].min()), int(images.stamp_ns[own].max()) + 1
        usable = last - first - (len(wanted) - 1) * guard_ns
        if usable <= 0:
            short.append(name)
            split[own] = 0
            continue
        best: tuple[float, IntArray] | None = None
        shares = {s: settings.split[s] for s in wanted}
        orders = list(itertools.permutations(wanted))
        turn = settings.seed % len(orders)
        for order in orders[turn:] + orders[:turn]:
            where = np.full(len(own), -1, np.int64)
            begin = first
            for s in order:
                end = begin + round(usable * shares[s])
                where[(images.stamp_ns[own] >= begin) & (images.stamp_ns[own] < max(end, begin + 1))] = s
                begin = end + guard_ns
            where[images.stamp_ns[own] >= begin - guard_ns] = order[-1]  # rounding
            got = np.zeros((3, weights.shape[1]))
            np.add.at(got, where[where >= 0], weights[own][where >= 0])
            total = np.maximum(got.sum(axis=0), 1)
            cost = float(np.abs(got / total - np.array(settings.split)[:, None]).sum())
            if best is None or cost < best[0] - 1e-9:
                best = (cost, where)
        where = best[1] if best is not None else np.zeros(len(own), np.int64)
        images.out[own[where < 0]] = GUARD
        split[own] = np.maximum(where, 0)
        block[own] = base + np.maximum(where, 0)
    notes = [
        (
            f"fewer than {FEWEST_GROUPS} groups: each drive is cut into blocks of time, and images within {settings.guard_s:g} s "
            "of a cut are left out. Blocks of one drive share vehicle, day and weather, so scores on val and test flatter"
        ),
    ]
    if short:
        notes.append(
            f"{', '.join(short)}: too short for blocks with {settings.guard_s:g} s between them; all of it is in train "
            "(--guard-s, or more drives)"
        )
    return Split(split, block, tuple(out_names), tuple(notes))
