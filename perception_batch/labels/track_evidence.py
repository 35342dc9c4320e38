"""What a whole run says of each of its tracks: how long, how often, by which cameras, of which class and height."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from perception_batch.calibration import Rig
from perception_batch.errors import LogError
from perception_batch.labels.run_rows import BoxRows, FloatArray, IntArray, TrackRows, stretches
from perception_batch.ontology import Ontology

_RIGHT = 0.95
"""Share of a track's frames of which one camera's class is taken to be right: a camera errs for a track's whole life."""
_RAREST = 1 / 3
"""Least that a class is expected for each of the commonest of its group, by the run's tracks: where cars are many, a good
part of what one camera calls a truck is a car, and rare classes should still be learnt."""
_BINS = 64
_LOWEST_M, _HIGHEST_M = 0.3, 8.0
_FARTHEST_M = 35.0
"""Farther off, half a degree of pitch moves the ground by more than a third of the range."""
_HEIGHT_NOISE = 0.08
"""Of the measured height, besides the spread of the class: ground, pitch and box."""
_FEWEST_HEIGHTS = 5
_UNLIKELY = 4.5
"""Most that a height may speak against a class, in log likelihood: a thing may stand on a kerb or be half hidden."""


@dataclass(frozen=True, slots=True, eq=False)
class TrackEvidence:
    """N tracks of a run and what speaks for their classes."""

    tracks: TrackRows
    """As the run decided."""
    class_id: IntArray
    """(N,) class by all evidence, the model's number; -1 where the model has none."""
    class_share: FloatArray
    """(N,) probability of that class among those of its group, 0..1."""
    posterior: tuple[Mapping[int, float], ...]
    """(N,) the same for each class of the group that is not out of the question."""
    switched: FloatArray
    """(N,) share of its boxes that the model called otherwise, 0..1."""
    height_m: FloatArray
    """(N,) median height by the ground under it; NaN where unknown."""


def gather_evidence(
    directory: Path,
    cameras: Sequence[str],
    tracks: TrackRows,
    labels: Mapping[int, str],
    ontology: Ontology,
    rig: Rig,
    ground_z_m: float | None,
) -> TrackEvidence:
    """Go through a run once. Memory grows with the number of tracks, some hundred bytes each.

    Raises:
        LogError: tables that are damaged or do not belong together.
    """
    count, kinds = len(tracks.label), max(labels, default=0) + 1
    votes: dict[int, float] = {}
    heights = np.zeros((count, _BINS), np.int32)
    for stretch in stretches(directory, cameras):
        rows = stretch.boxes
        use = (rows.track >= 0) & (rows.aside == 0)
        use &= (rows.timestep >= stretch.start) & (rows.timestep < stretch.stop)
        picked = np.flatnonzero(use)
        if int(rows.track[picked].max(initial=-1)) >= count:
            raise LogError(
                directory / "observations.parquet", "names tracks that tracks.parquet lacks; run `fuse` again"
            )
        key = (rows.track[picked] * len(cameras) + rows.camera[picked]) * kinds + rows.class_id[picked]
        values, place = np.unique(key, return_inverse=True)
        sums = np.bincount(place, weights=rows.score[picked], minlength=len(values))
        for value, total in zip(values.tolist(), sums.tolist(), strict=True):
            votes[value] = votes.get(value, 0.0) + total
        if ground_z_m is not None:
            _add_heights(heights, rows, picked, cameras, rig, ground_z_m)
    return _decide(tracks, votes, heights, len(cameras), kinds, labels, ontology)


def in_classes_of_set(evidence: TrackEvidence, class_table: IntArray) -> TrackEvidence:
    """The same with the share of each track's class in the set: what a class map makes one cannot be mistaken for another.

    Args:
        evidence: by the model's classes.
        class_table: by the model's class number: place in the set's classes, -1 where they lack it.
    """
    share = evidence.class_share.copy()
    for track, (own, posterior) in enumerate(
        zip(evidence.class_id.tolist(), evidence.posterior, strict=True)
    ):
        if 0 <= own < len(class_table) and class_table[own] >= 0:
            mates = [c for c in posterior if 0 <= c < len(class_table) and class_table[c] == class_table[own]]
            share[track] = min(1.0, sum(posterior[c] for c in mates))
    return replace(evidence, class_share=share)


def _add_heights(
    heights: np.ndarray, rows: BoxRows, picked: IntArray, cameras: Sequence[str], rig: Rig, ground_z_m: float
) -> None:
    for number, name in enumerate(cameras):
        camera = rig.cameras.get(name)
        if camera is None:
            continue
        own = picked[rows.camera[picked] == number]
        box = rows.xyxy[own]
        inside = (box[:, 1] > 2) & (box[:, 3] < camera.intrinsics.height_px - 2)
        own, box = own[inside], box[inside]
        metres = heights_over_ground(box, camera.intrinsics, camera.base_SE3_camera, ground_z_m)
        known = np.isfinite(metres)
        scale = (_BINS - 1) / math.log(_HIGHEST_M / _LOWEST_M)
        slot = np.rint(np.log(np.clip(metres[known], _LOWEST_M, _HIGHEST_M) / _LOWEST_M) * scale).astype(
            np.int64
        )
        np.add.at(heights, (rows.track[own[known]], slot), 1)


def heights_over_ground(box_px: FloatArray, lens, mount, ground_z_m: float) -> FloatArray:  # type: ignore[no-untyped-def]
    """(N,) metres from the bottom of each box, taken to stand on the ground, to its top; NaN far off or skyward."""
    middle = (box_px[:, 0] + box_px[:, 2]) / 2
    rays = [lens.rays_of_corners(np.stack([middle, box_px[:, i]], axis=1)) @ mount.rotation.T for i in (3, 1)]
    with np.errstate(divide="ignore", invalid="ignore"):
        down = (ground_z_m - mount.translation_m[2]) / rays[0][:, 2]
        reach = down * np.hypot(rays[0][:, 0], rays[0][:, 1])
        up = rays[1][:, 2] / np.hypot(rays[1][:, 0], rays[1][:, 1])
        height = mount.translation_m[2] + reach * up - ground_z_m
        height[~((down > 0) & (reach > 2.0) & (reach < _FARTHEST_M))] = np.nan
    return np.asarray(height, np.float64)


def _decide(
    tracks: TrackRows,
    votes: Mapping[int, float],
    heights: np.ndarray,
    cameras: int,
    kinds: int,
    labels: Mapping[int, str],
    ontology: Ontology,
) -> TrackEvidence:
    by_track: dict[int, dict[int, dict[int, float]]] = {}
    for key, total in votes.items():
        rest, class_id = divmod(key, kinds)
        track, camera = divmod(rest, cameras)
        by_track.setdefault(track, {}).setdefault(camera, {})[class_id] = total
    entries = {class_id: ontology.find(label) for class_id, label in labels.items()}
    centres = _LOWEST_M * (_HIGHEST_M / _LOWEST_M) ** (np.arange(_BINS) / (_BINS - 1))
    chosen = tracks.class_id.copy()
    share, switched = np.ones(len(chosen)), np.zeros(len(chosen))
    tall = np.full(len(chosen), np.nan)
    posteriors: list[Mapping[int, float]] = []
    known = np.bincount(tracks.class_id[(tracks.class_id >= 0) & (tracks.class_id < kinds)], minlength=kinds)
    for track in range(len(chosen)):
        counts = heights[track]
        if counts.sum() >= _FEWEST_HEIGHTS:
            tall[track] = centres[int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))]
        own = int(tracks.class_id[track])
        entry = entries.get(own)
        group = None if entry is None else entry.group
        seen = by_track.get(track, {})
        all_votes: dict[int, float] = {}
        for of_camera in seen.values():
            for class_id, total in of_camera.items():
                all_votes[class_id] = all_votes.get(class_id, 0.0) + total
        mates = [c for c, e in entries.items() if e is not None and e.group == group and group is not None]
        if own not in mates:
            mates = [own]
        log_likelihood = {}
        commonest = max((int(known[c]) for c in mates if 0 <= c < kinds), default=0) + 1
        for candidate in mates:
            count_of = int(known[candidate]) + 1 if 0 <= candidate < kinds else 1
            value = math.log(max(count_of / commonest, _RAREST))
            for of_camera in seen.values():
                total = sum(of_camera.values())
                for class_id, part in of_camera.items():
                    right = class_id == candidate
                    value += (
                        part / total * math.log(_RIGHT if right else (1 - _RIGHT) / max(1, len(mates) - 1))
                    )
            kind = entries.get(candidate)
            if kind is not None and kind.on_ground and not math.isnan(tall[track]):
                value += _height_likelihood(float(tall[track]), kind.size_lwh_m[2], kind.size_sd_m[2])
            log_likelihood[candidate] = value
        most = max(log_likelihood.values())
        weights = {c: math.exp(v - most) for c, v in log_likelihood.items()}
        total = sum(weights.values())
        posterior = {c: w / total for c, w in weights.items() if w / total >= 0.001}
        voted = {c: p for c, p in posterior.items() if c in all_votes} or {own: posterior.get(own, 0.0)}
        best = max(voted, key=lambda c: (voted[c], c == own))
        chosen[track], share[track] = best, posterior.get(best, 0.0)
        everything = sum(all_votes.values())
        switched[track] = 0.0 if not everything else 1 - all_votes.get(best, 0.0) / everything
        posteriors.append(posterior)
    return TrackEvidence(tracks, chosen, share, tuple(posteriors), switched, tall)


def _height_likelihood(found_m: float, usual_m: float, spread_m: float) -> float:
    sd = math.hypot(spread_m, _HEIGHT_NOISE * found_m)
    value = -0.5 * ((found_m - usual_m) / sd) ** 2 - math.log(sd)
    return max(value, -_UNLIKELY)
