"""Identities over time: IDF1 (Ristani et al. 2016) and CLEAR MOT (Bernardin and Stiefelhagen 2008), by TrackEval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perception_batch.evaluate.pairing import PairedStep, overlaps
from perception_batch.evaluate.positions import positions_at
from perception_batch.evaluate.report import Skipped, TrackFigures
from perception_batch.evaluate.settings import EvaluateSettings
from perception_batch.evaluate.truth import Classes, FloatArray, IntArray, Truth

NEAR_M = 2.0
"""An object that far from the truth may be it (nuScenes' tracking benchmark, Caesar et al. 2020)."""
NEAR_SHARE = 0.10
"""... or that share of its range: cameras know the direction, not the distance."""


@dataclass(slots=True)
class TrackSequence:
    """What TrackEval takes: ids from 0 without gaps, and their similarity (>= 0.5: may be one), by timestep."""

    truth_ids: list[IntArray] = field(default_factory=list)
    track_ids: list[IntArray] = field(default_factory=list)
    similarity: list[FloatArray] = field(default_factory=list)

    def add(self, truth_ids: IntArray, track_ids: IntArray, similarity: FloatArray) -> None:
        """One timestep."""
        self.truth_ids.append(truth_ids)
        self.track_ids.append(track_ids)
        self.similarity.append(similarity)


def score_tracks(
    steps: Sequence[PairedStep],
    truth: Truth,
    classes: Classes,
    settings: EvaluateSettings,
    asked: frozenset[int],
    *,
    has_tracks: bool,
    has_positions: bool,
) -> TrackFigures | Skipped:
    """IDF1 and MOTA over ground where objects have positions, else per camera in the image."""
    if not has_tracks:
        return Skipped("the objects of the run carry no track_id")
    if len(steps) < 2:
        return Skipped("fewer than two timesteps have truth")
    on_ground = has_positions and any(np.isfinite(f.center_m).all(axis=1).any() for f in truth.frames)
    if on_ground:
        sequences = [ground_sequence(steps, truth, classes, settings, asked)]
    else:
        sequences = image_sequences(steps, classes, settings, asked)
    if not any(len(ids) for s in sequences for ids in s.truth_ids):
        return Skipped("no truth object counts")
    return _figures(sequences, "ground" if on_ground else "image")


def ground_sequence(
    steps: Sequence[PairedStep],
    truth: Truth,
    classes: Classes,
    settings: EvaluateSettings,
    asked: frozenset[int],
) -> TrackSequence:
    """All cameras as one. Truth objects count while a camera shows a box of theirs that counts, within range.

    A track on a truth object that does not count at that moment (hidden, too far) is left out, not false.
    """
    out = TrackSequence()
    for step in steps:
        where = positions_at(truth, step.frame, step.run.stamp_ns)
        shown = {int(i) for p in step.pictures for i in p.truth.ids[p.counts]}
        ids = np.array(sorted(where), np.int64)
        center = np.array([where[i][1] for i in ids.tolist()], np.float64).reshape(-1, 3)
        of_class = np.array([where[i][0] for i in ids.tolist()], np.int64)
        ranges = np.hypot(center[:, 0], center[:, 1])
        counts = np.isin(ids, list(shown)) & (ranges <= settings.max_range_m) & np.isin(of_class, list(asked))
        use = (step.run.tracks >= 0) & np.isfinite(step.run.position_m).all(axis=1)
        found = step.run.position_m[use]
        gap = np.hypot(center[:, None, 0] - found[None, :, 0], center[:, None, 1] - found[None, :, 1])
        near = np.maximum(NEAR_M, NEAR_SHARE * ranges)[:, None]
        same = classes.groups[of_class][:, None] == classes.groups[step.run.object_classes[use]][None, :]
        similarity = np.where(same, np.clip(1 - gap / (2 * near), 0, 1), 0.0)
        out.add(
            *_without_ignored(
                ids,
                step.run.tracks[use],
                similarity,
                counts,
                np.hypot(*found[:, :2].T) > settings.max_range_m,
            )
        )
    return out


def image_sequences(
    steps: Sequence[PairedStep], classes: Classes, settings: EvaluateSettings, asked: frozenset[int]
) -> list[TrackSequence]:
    """One sequence per camera; similarity is overlap of boxes."""
    sequences: dict[str, TrackSequence] = {}
    for step in steps:
        track_of = dict(zip(step.run.object_ids.tolist(), step.run.tracks.tolist(), strict=True))
        for picture in step.pictures:
            tracks = np.array([track_of.get(n, -1) for n in picture.run.objects.tolist()], np.int64)
            use = tracks >= 0
            counts = picture.counts & np.isin(picture.truth.classes, list(asked))
            similarity = overlaps(picture.run, picture.truth, classes, settings.min_iou)[use].T
            sequences.setdefault(picture.run.camera, TrackSequence()).add(
                *_without_ignored(
                    picture.truth.ids, tracks[use], similarity, counts, np.zeros(int(use.sum()), bool)
                )
            )
    return list(sequences.values())


def _without_ignored(
    truth_ids: IntArray, track_ids: IntArray, similarity: FloatArray, counts: Any, far: Any
) -> tuple[IntArray, IntArray, FloatArray]:
    """Take out truth objects that do not count, and tracks that sit on them (as MOTChallenge does) or beyond range."""
    from scipy.optimize import linear_sum_assignment

    keep = np.ones(len(track_ids), bool)
    if len(truth_ids) and len(track_ids):
        # What counts is matched first, so that no good track is lost to an ignored neighbour.
        gain = np.where(similarity >= 0.5, similarity + counts[:, None], 0.0)
        rows, columns = linear_sum_assignment(gain, maximize=True)
        matched = gain[rows, columns] > 0
        keep[columns[matched & ~counts[rows]]] = False
        keep &= ~(far & ~np.isin(np.arange(len(track_ids)), columns[matched & counts[rows]]))
    else:
        keep &= ~far
    # One id once a timestep is what TrackEval asks; a second object of the same track would be our own mistake.
    _, first = np.unique(track_ids, return_index=True)
    keep &= np.isin(np.arange(len(track_ids)), first)
    return truth_ids[counts], track_ids[keep], similarity[np.ix_(counts, keep)]


def _figures(sequences: Sequence[TrackSequence], space: str) -> TrackFigures:
    from trackeval.metrics import CLEAR, Identity

    results = []
    for metric in (Identity({"PRINT_CONFIG": False}), CLEAR({"PRINT_CONFIG": False})):
        of_all = {str(i): metric.eval_sequence(_numbered(s)) for i, s in enumerate(sequences)}
        results.append(metric.combine_sequences(of_all))
    identity, clear = results
    return TrackFigures(
        space="ground" if space == "ground" else "image",
        timesteps=max(len(s.truth_ids) for s in sequences),
        truth_objects=len(
            {(n, i) for n, s in enumerate(sequences) for ids in s.truth_ids for i in ids.tolist()}
        ),
        tracks=len({(n, i) for n, s in enumerate(sequences) for ids in s.track_ids for i in ids.tolist()}),
        truth_rows=sum(len(ids) for s in sequences for ids in s.truth_ids),
        idf1=float(identity["IDF1"]),
        id_precision=float(identity["IDP"]),
        id_recall=float(identity["IDR"]),
        mota=float(clear["MOTA"]),
        id_switches=int(clear["IDSW"]),
        fragmentations=int(clear["Frag"]),
        misses=int(clear["CLR_FN"]),
        false_positives=int(clear["CLR_FP"]),
        mostly_tracked=int(clear["MT"]),
        mostly_lost=int(clear["ML"]),
    )


def _numbered(sequence: TrackSequence) -> dict[str, Any]:
    """With ids from 0 without gaps."""
    truth = np.unique(np.concatenate([np.zeros(0, np.int64), *sequence.truth_ids]))
    tracks = np.unique(np.concatenate([np.zeros(0, np.int64), *sequence.track_ids]))
    return {
        "num_timesteps": len(sequence.truth_ids),
        "num_gt_ids": len(truth),
        "num_tracker_ids": len(tracks),
        "num_gt_dets": sum(len(ids) for ids in sequence.truth_ids),
        "num_tracker_dets": sum(len(ids) for ids in sequence.track_ids),
        "gt_ids": [np.searchsorted(truth, ids) for ids in sequence.truth_ids],
        "tracker_ids": [np.searchsorted(tracks, ids) for ids in sequence.track_ids],
        "similarity_scores": sequence.similarity,
    }
