"""What two runs of one drive found differently: boxes frame by frame, tracks, classes.

Frames are the same by camera and exposure stamp. Boxes of one frame are partners one to one where they overlap by
at least half (IoU), those of one label first: what is left over and overlaps under two labels is *relabelled*, the rest is
lost (in A only) or gained (in B only). Tracks are partners that share the most boxes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from perception_batch.errors import LogError, printable
from perception_batch.geometry import box_iou
from perception_batch.run_boxes import FrameKey, RunBoxes
from perception_batch.runs import stage_of_keys

LEAST_IOU = 0.5
Index = npt.NDArray[np.intp]


@dataclass(slots=True)
class LabelCounts:
    """One camera and label."""

    a: int = 0
    """Boxes of run A."""
    b: int = 0
    """Boxes of run B."""
    same: int = 0
    """Partners of this label."""
    lost: int = 0
    """Boxes of A without a partner."""
    lost_kept: int = 0
    """Of these, those that B's tables hold too, below its score or set aside by its fusion."""
    gained: int = 0
    """Boxes of B without a partner."""
    gained_kept: int = 0
    """Of these, those that A's tables hold too."""
    relabelled: int = 0
    """Boxes of A with this label whose partner has another."""
    tracks_a: int = 0
    """Tracks of A that were seen by this camera."""
    tracks_b: int = 0
    """Tracks of B that were seen by this camera."""
    tracks_lost: int = 0
    """Of A's, those without a partner."""
    tracks_gained: int = 0
    """Of B's, those without a partner."""


@dataclass(frozen=True, slots=True)
class BoxChange:
    """One box that differs."""

    kind: str
    """``lost``, ``gained`` or ``relabelled``."""
    label: str
    """In A; of a gained box in B."""
    label_b: str | None
    """Of a relabelled box: what B says."""
    score: float
    """In A; of a gained box in B."""
    box_px: tuple[float, float, float, float]
    """In A; of a gained box in B."""


@dataclass(frozen=True, slots=True)
class FrameChange:
    """One camera frame in which the runs differ."""

    camera: str
    """Name of the camera."""
    frame_stamp_ns: int
    """Its exposure, ns."""
    time_s: float
    """Of A's timestep."""
    timestep_a: int
    """Of A."""
    timestep_b: int
    """Of B."""
    changes: tuple[BoxChange, ...]
    """By falling score."""


@dataclass(slots=True)
class TrackCounts:
    """The tracks of one class, as the runs' ontology names it."""

    a: int = 0
    """Tracks of run A."""
    b: int = 0
    """Tracks of run B."""
    same: int = 0
    """Partners."""
    lost: int = 0
    """Of A, without a partner."""
    gained: int = 0
    """Of B, without a partner."""
    broken: int = 0
    """Of A, whose boxes lie on more than one track of B."""
    joined: int = 0
    """Of B, whose boxes lie on more than one track of A."""


@dataclass(slots=True)
class Comparison:
    """What two runs of one drive found differently."""

    drive: str
    """Its name in run A."""
    run_a: str
    """Folder."""
    run_b: str
    """Folder."""
    frames: int = 0
    """Camera frames that both used."""
    frames_only_a: int = 0
    """Camera frames that only A used: they are left out."""
    frames_only_b: int = 0
    """Camera frames that only B used."""
    differing_frames: int = 0
    """Of the common ones, those with a change."""
    made_by: dict[str, tuple[str, str]] = field(default_factory=dict)
    """What made the runs and differs: weights, backend, settings; values of A and B."""
    counts: dict[str, dict[str, LabelCounts]] = field(default_factory=dict)
    """By camera and the model's label."""
    relabelled: dict[str, int] = field(default_factory=dict)
    """By ``car -> truck``: how often."""
    tracks: dict[str, TrackCounts] = field(default_factory=dict)
    """By class; a pair counts under A's."""
    classes_lost: list[str] = field(default_factory=list)
    """Labels that only A found."""
    classes_gained: list[str] = field(default_factory=list)
    """Labels that only B found."""
    score_difference: float = 0.0
    """The largest between partners."""
    edge_difference_px: float = 0.0
    """The largest between partners' edges."""
    worst: list[FrameChange] = field(default_factory=list)
    """Frames with the most changes first, then by time."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


def compare_runs(a: RunBoxes, b: RunBoxes, worst: int = 10) -> Comparison:
    """Compare.

    Args:
        a: the run that is the measure.
        b: another of the same drive.
        worst: so many frames are listed.

    Raises:
        LogError: the runs are of different drives, or have no camera frame in common.
    """
    _check_same_drive(a, b)
    common = sorted(a.frames.keys() & b.frames.keys(), key=lambda key: (key[1], key[0]))
    if not common:
        raise LogError(
            b.path, f"has no camera frame in common with {printable(a.path)}: other cameras, or other times"
        )
    out = Comparison(a.manifest.drive, str(a.path), str(b.path), made_by=_made_by(a, b))
    out.frames = len(common)
    out.frames_only_a, out.frames_only_b = len(a.frames) - len(common), len(b.frames) - len(common)
    counts: defaultdict[tuple[str, str], LabelCounts] = defaultdict(LabelCounts)
    votes: Counter[tuple[int, int]] = Counter()
    seen_a: dict[int, set[str]] = defaultdict(set)
    seen_b: dict[int, set[str]] = defaultdict(set)
    moved: Counter[str] = Counter()
    changed: list[FrameChange] = []
    for key in common:
        changes = _compare_frame(a, b, key, out, counts, votes, moved)
        if changes:
            first, second = a.frames[key], b.frames[key]
            ordered = tuple(sorted(changes, key=lambda change: -change.score))
            changed.append(FrameChange(*key, first.time_s, first.timestep, second.timestep, ordered))
        for run, seen in ((a, seen_a), (b, seen_b)):
            for track in set(run.track[run.frames[key].rows].tolist()) - {-1}:
                seen[track].add(key[0])
    _compare_tracks(a, b, votes, seen_a, seen_b, out, counts)
    out.differing_frames = len(changed)
    out.worst = sorted(changed, key=lambda f: (-len(f.changes), f.frame_stamp_ns, f.camera))[:worst]
    out.relabelled = dict(moved.most_common())
    for camera, label in sorted(counts):
        out.counts.setdefault(camera, {})[label] = counts[camera, label]
    labels_a = {label for (_, label), count in counts.items() if count.a}
    labels_b = {label for (_, label), count in counts.items() if count.b}
    out.classes_lost, out.classes_gained = sorted(labels_a - labels_b), sorted(labels_b - labels_a)
    return out


def _check_same_drive(a: RunBoxes, b: RunBoxes) -> None:
    first, second = a.manifest, b.manifest
    if first.log.get("fingerprint") == second.log.get("fingerprint"):
        return
    raise LogError(
        b.path,
        f"is a run of another drive: {printable(second.drive)} ({_log_names(b)}), and {printable(a.path)} is of "
        f"{printable(first.drive)} ({_log_names(a)}); give two runs of one log",
    )


def _log_names(run: RunBoxes) -> str:
    paths = run.manifest.log.get("paths")
    names = [str(path) for path in paths] if isinstance(paths, list) else []
    return printable(", ".join(names[:3]) or "log unknown")


def _made_by(a: RunBoxes, b: RunBoxes) -> dict[str, tuple[str, str]]:
    """What the manifests say differs between how the runs were made."""
    first, second = a.manifest, b.manifest
    out = {}
    for key in ("sha256", "backend", "precision", "input_hw"):
        pair = first.model.get(key), second.model.get(key)
        if pair[0] != pair[1]:
            out[f"model.{key}"] = (str(pair[0]), str(pair[1]))
    for key in ("batch_size", "device"):
        if getattr(first, key) != getattr(second, key):
            out[key] = (str(getattr(first, key)), str(getattr(second, key)))
    for name, stage in stage_of_keys(first.config, second.config).items():
        if stage in ("detect", "fuse"):
            out[name] = (_value(first.config, name), _value(second.config, name))
    for name in sorted(first.selection.keys() | second.selection.keys()):
        pair = first.selection.get(name), second.selection.get(name)
        if pair[0] != pair[1]:
            out[f"--{name}"] = (str(pair[0]), str(pair[1]))
    return out


def _value(config: Any, dotted: str) -> str:
    node = config
    for part in dotted.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return str(node)


def _compare_frame(
    a: RunBoxes,
    b: RunBoxes,
    key: FrameKey,
    out: Comparison,
    counts: defaultdict[tuple[str, str], LabelCounts],
    votes: Counter[tuple[int, int]],
    moved: Counter[str],
) -> list[BoxChange]:
    camera = key[0]
    rows_a, rows_b = (np.arange(s.start, s.stop) for s in (a.frames[key].rows, b.frames[key].rows))
    ours, theirs = rows_a[a.found[rows_a]], rows_b[b.found[rows_b]]
    for run, rows, side in ((a, ours, "a"), (b, theirs, "b")):
        for label in run.label[rows].tolist():
            entry = counts[camera, label]
            setattr(entry, side, getattr(entry, side) + 1)
    i, j, left_a, left_b = _partners(a, b, ours, theirs, same_label=True)
    for label in a.label[i].tolist():
        counts[camera, label].same += 1
    x, y, left_a, left_b = _partners(a, b, left_a, left_b, same_label=False)
    changes = []
    for row, other in zip(x, y, strict=True):
        counts[camera, a.label[row]].relabelled += 1
        moved[f"{a.label[row]} -> {b.label[other]}"] += 1
        changes.append(_change("relabelled", a, int(row), str(b.label[other])))
    i, j = np.concatenate([i, x]), np.concatenate([j, y])
    if len(i):
        by_score = float(np.abs(a.score[i] - b.score[j]).max())
        by_px = float(np.abs(a.xyxy[i] - b.xyxy[j]).max())
        out.score_difference = max(out.score_difference, by_score)
        out.edge_difference_px = max(out.edge_difference_px, by_px)
    for mine, its in zip(a.track[i].tolist(), b.track[j].tolist(), strict=True):
        if mine >= 0 and its >= 0:
            votes[mine, its] += 1
    # What the other run's tables hold all the same, below its score or set aside.
    kept_b = set(_partners(a, b, left_a, rows_b[~b.found[rows_b]], same_label=True)[0].tolist())
    kept_a = set(_partners(a, b, rows_a[~a.found[rows_a]], left_b, same_label=True)[1].tolist())
    for row in left_a.tolist():
        entry = counts[camera, a.label[row]]
        entry.lost += 1
        entry.lost_kept += row in kept_b
        changes.append(_change("lost", a, row))
    for row in left_b.tolist():
        entry = counts[camera, b.label[row]]
        entry.gained += 1
        entry.gained_kept += row in kept_a
        changes.append(_change("gained", b, row))
    return changes


def _change(kind: str, run: RunBoxes, row: int, label_b: str | None = None) -> BoxChange:
    x1, y1, x2, y2 = (round(float(v), 2) for v in run.xyxy[row])
    return BoxChange(kind, str(run.label[row]), label_b, round(float(run.score[row]), 4), (x1, y1, x2, y2))


def _partners(
    a: RunBoxes, b: RunBoxes, rows_a: Index, rows_b: Index, *, same_label: bool
) -> tuple[Index, Index, Index, Index]:
    """Rows of partners in A and B by falling overlap, and the rows of both that are left."""
    iou = box_iou(a.xyxy[rows_a], b.xyxy[rows_b])
    if same_label:
        iou = np.where(a.label[rows_a][:, None] == b.label[rows_b][None, :], iou, 0.0)
    i, j = np.nonzero(iou >= LEAST_IOU)
    chosen = _one_to_one(zip(i.tolist(), j.tolist(), strict=True), (-iou[i, j]).tolist())
    taken_a, taken_b = [p for p, _ in chosen], [q for _, q in chosen]
    return rows_a[taken_a], rows_b[taken_b], np.delete(rows_a, taken_a), np.delete(rows_b, taken_b)


def _one_to_one(pairs: Iterable[tuple[int, int]], costs: Sequence[float]) -> list[tuple[int, int]]:
    """Of candidate pairs, those that are chosen by rising cost with no side used twice."""
    used_a: set[int] = set()
    used_b: set[int] = set()
    chosen = []
    for _, (p, q) in sorted(zip(costs, pairs, strict=True)):
        if p not in used_a and q not in used_b:
            used_a.add(p)
            used_b.add(q)
            chosen.append((p, q))
    return chosen


def _compare_tracks(
    a: RunBoxes,
    b: RunBoxes,
    votes: Counter[tuple[int, int]],
    seen_a: dict[int, set[str]],
    seen_b: dict[int, set[str]],
    out: Comparison,
    counts: defaultdict[tuple[str, str], LabelCounts],
) -> None:
    """Tracks as far as the common frames show them."""
    chosen = _one_to_one(votes, [-count for count in votes.values()])
    with_partner_a, with_partner_b = {p for p, _ in chosen}, {q for _, q in chosen}
    partners_of_a, partners_of_b = Counter(p for p, _ in votes), Counter(q for _, q in votes)
    table: defaultdict[str, TrackCounts] = defaultdict(TrackCounts)
    for track, cameras in seen_a.items():
        label = a.track_labels.get(track, "unknown")
        lost = track not in with_partner_a
        entry = table[label]
        entry.a += 1
        entry.same += not lost
        entry.lost += lost
        entry.broken += partners_of_a[track] > 1
        for camera in cameras:
            counts[camera, label].tracks_a += 1
            counts[camera, label].tracks_lost += lost
    for track, cameras in seen_b.items():
        label = b.track_labels.get(track, "unknown")
        gained = track not in with_partner_b
        entry = table[label]
        entry.b += 1
        entry.gained += gained
        entry.joined += partners_of_b[track] > 1
        for camera in cameras:
            counts[camera, label].tracks_b += 1
            counts[camera, label].tracks_gained += gained
    out.tracks = {label: table[label] for label in sorted(table)}
