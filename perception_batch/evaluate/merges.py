"""Whether cameras agree on who is who: pairs of observations of one timestep in different cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perception_batch.evaluate.bootstrap import interval
from perception_batch.evaluate.pairing import PairedStep
from perception_batch.evaluate.report import MergeFigures, Skipped
from perception_batch.evaluate.settings import EvaluateSettings
from perception_batch.evaluate.truth import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of observations, by the truth object that they are about."""

    objects: IntArray
    """(P,) the truth object; of a wrong pair, the one of its first observation that has one."""
    same: IntArray
    """(P,) 1 where both belong to one truth object."""
    fused: IntArray
    """(P,) 1 where both are part of one fused object."""


def score_merges(steps: Sequence[PairedStep], settings: EvaluateSettings) -> MergeFigures | Skipped:
    """Precision and recall of "these two observations are one object"."""
    cameras = {picture.run.camera for step in steps for picture in step.pictures}
    if len(cameras) < 2:
        return Skipped("fewer than two cameras have truth boxes")
    pairs = collect_pairs(steps)
    right = int((pairs.same & pairs.fused).sum())
    true, found = int(pairs.same.sum()), int(pairs.fused.sum())
    if not true and not found:
        return Skipped("no two cameras saw the same truth object, and none were fused")
    same, fused = pairs.same.astype(float), pairs.fused.astype(float)

    def f1(weights: FloatArray) -> float:
        total = float((weights * (same + fused)).sum())
        return 2 * float((weights * same * fused).sum()) / total if total else float("nan")

    return MergeFigures(
        true_pairs=true,
        fused_pairs=found,
        right_pairs=right,
        truth_objects=len(np.unique(pairs.objects[pairs.same == 1])),
        precision=right / found if found else None,
        recall=right / true if true else None,
        f1=2 * right / (true + found),
        f1_interval=interval(pairs.objects, f1, resamples=settings.resamples, seed=settings.seed),
    )


def collect_pairs(steps: Sequence[PairedStep]) -> Pairs:
    """All pairs that are truly one object, or were fused, or both.

    Only observations that fusion used take part. A pair of which neither belongs to any truth object says nothing
    and is left out, as is one with a truth box that does not count or with a box of which it is unclear what it is.
    One true and one false box fused is a mistake.
    """
    objects: list[IntArray] = []
    same: list[IntArray] = []
    fused: list[IntArray] = []
    for step in steps:
        camera: list[int] = []
        identity: list[int] = []
        merged: list[int] = []
        for number, picture in enumerate(step.pictures):
            false = (picture.truth_row < 0) & ~picture.unclear
            use = (picture.run.objects >= 0) & (picture.decided | false)
            identity += picture.identity[use].tolist()
            merged += picture.run.objects[use].tolist()
            camera += [number] * int(use.sum())
        who, obj, cam = np.array(identity), np.array(merged), np.array(camera)
        if len(who) < 2:
            continue
        i, j = np.triu_indices(len(who), 1)
        between = (cam[i] != cam[j]) & ((who[i] >= 0) | (who[j] >= 0))
        i, j = i[between], j[between]
        is_same, is_fused = who[i] == who[j], obj[i] == obj[j]
        told = is_same | is_fused
        i, j = i[told], j[told]
        objects.append(np.where(who[i] >= 0, who[i], who[j]).astype(np.int64))
        same.append(is_same[told].astype(np.int64))
        fused.append(is_fused[told].astype(np.int64))
    empty = np.zeros(0, np.int64)
    return Pairs(
        np.concatenate([empty, *objects]), np.concatenate([empty, *same]), np.concatenate([empty, *fused])
    )
