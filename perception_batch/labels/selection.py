"""Which images a training set keeps, and why it leaves out the others: every image has one reason, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from perception_batch.labels.doubt import doubts_of, of_images
from perception_batch.labels.label_settings import LabelSettings
from perception_batch.labels.run_rows import REASONS, FloatArray, IntArray, Stretch
from perception_batch.labels.scored_boxes import ACCEPTED, DROPPED, IGNORED, QUALITY, UNTRACKED, ScoredBoxes

OUT = (
    "",
    "rate",
    "distance",
    "only_ignored",
    "too_many_ignored",
    "negative",
    "quota",
    "max_images",
    "guard",
    "near_duplicate",
    "size_changed",
    "no_position",
    "only_dropped",
)
"""Why an image is left out, by the code in `Images.out`; empty: it is kept."""
_UNCONFIRMED = (UNTRACKED, QUALITY, REASONS.index("ghost"))
(
    RATE, DISTANCE, ONLY_IGNORED, TOO_MANY_IGNORED, NEGATIVE, QUOTA, MAX_IMAGES, GUARD, DUPLICATE, SIZE, NO_POSITION,
    ONLY_DROPPED,
) = range(1, len(OUT))  # fmt: skip


@dataclass(slots=True, eq=False)
class Images:
    """N images of all runs, by run, timestep and camera: about 50 bytes each, and two a class."""

    run: npt.NDArray[np.int32]
    timestep: npt.NDArray[np.int32]
    camera: npt.NDArray[np.int16]
    """Place in the run's cameras."""
    stamp_ns: IntArray
    accepted: npt.NDArray[np.uint16]
    """(N, C) labels by class."""
    ignored: npt.NDArray[np.uint16]
    doubt: npt.NDArray[np.float32]
    out: npt.NDArray[np.uint8]
    """Place in `OUT`."""

    def __len__(self) -> int:
        return len(self.run)

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        """(N,) so far."""
        return np.asarray(self.out == 0, bool)


def joined(parts: Sequence[Images]) -> Images:
    """One after the other."""
    return Images(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Images)))


def summarise(
    run: int, stretch: Stretch, boxes: ScoredBoxes, classes: tuple[str, ...], settings: LabelSettings
) -> Images:
    """The images of a stretch."""
    frames = stretch.frames
    inside = np.flatnonzero((frames.timestep >= stretch.start) & (frames.timestep < stretch.stop))
    inside = inside[np.lexsort((frames.camera[inside], frames.timestep[inside]))]
    many = int(frames.camera.max(initial=0)) + 1
    key = frames.timestep[inside] * many + frames.camera[inside]
    place = np.searchsorted(key, boxes.timestep * many + boxes.camera)
    n = len(inside)
    accepted = np.zeros((n, len(classes)), np.uint16)
    labels = boxes.band == ACCEPTED
    np.add.at(accepted, (place[labels], boxes.class_index[labels]), 1)
    _, doubts = doubts_of(boxes, classes, settings)
    ignored = np.bincount(place[boxes.band == IGNORED], minlength=n)
    # What the detector saw and nothing confirms may be there: such an image is no negative either.
    doubtful = (boxes.band == DROPPED) & ~boxes.recovered & np.isin(boxes.why, _UNCONFIRMED)
    out = np.zeros(n, np.uint8)
    out[np.unique(place[doubtful])] = ONLY_DROPPED
    out[np.unique(place[boxes.band != DROPPED])] = 0
    return Images(
        np.full(n, run, np.int32),
        frames.timestep[inside].astype(np.int32),
        frames.camera[inside].astype(np.int16),
        frames.stamp_ns[inside],
        accepted,
        np.minimum(ignored, 65535).astype(np.uint16),
        of_images(place, doubts, n).astype(np.float32),
        out,
    )


def thin_out(images: Images, settings: LabelSettings, path: tuple[IntArray, FloatArray]) -> None:
    """Leave out timesteps of one run that come too soon or too near after the last one kept; whole timesteps."""
    if not settings.every_s and not settings.min_distance_m:
        return
    starts = np.flatnonzero(np.diff(images.timestep, prepend=-1))
    stamps, places = path
    at = np.zeros((len(starts), 2))
    if len(stamps):
        seconds = (stamps - stamps[0]) * 1e-9
        when = (images.stamp_ns[starts] - stamps[0]) * 1e-9
        at = np.stack([np.interp(when, seconds, places[:, i]) for i in (0, 1)], axis=1)
    least_ns = round(settings.every_s * 1e9)
    slack_ns = least_ns // 100  # stamps jitter
    last = -1
    for i, (start, stop) in enumerate(zip(starts.tolist(), [*starts[1:].tolist(), len(images)], strict=True)):
        if last >= 0:
            if images.stamp_ns[start] - images.stamp_ns[starts[last]] < least_ns - slack_ns:
                images.out[start:stop] = RATE
                continue
            if settings.min_distance_m and np.hypot(*(at[i] - at[last])) < settings.min_distance_m:
                images.out[start:stop] = DISTANCE
                continue
        last = i


def choose(images: Images, classes: tuple[str, ...], settings: LabelSettings) -> None:
    """Leave out what teaches nothing, what is more than was asked for, and negatives beyond their share."""
    rng = np.random.default_rng(settings.seed)
    lot = rng.random(len(images))
    labels = images.accepted.sum(axis=1, dtype=np.int64)
    images.out[images.kept & (labels == 0) & (images.ignored > 0)] = ONLY_IGNORED
    if settings.max_ignored is not None:
        images.out[images.kept & (images.ignored > settings.max_ignored)] = TOO_MANY_IGNORED
    taught = np.flatnonzero(images.kept & (labels > 0))
    if settings.quota is not None or settings.max_images is not None:
        taught = _within_limits(images, taught, lot, classes, settings)
    empty = np.flatnonzero(images.kept & (labels == 0))
    share = settings.negatives
    most = len(empty) if share >= 1 else int(share / (1 - share) * len(taught))
    if settings.max_images is not None:
        most = min(most, max(0, settings.max_images - len(taught)))
    images.out[empty[np.argsort(lot[empty], kind="stable")][most:]] = NEGATIVE


def _within_limits(
    images: Images, taught: IntArray, lot: FloatArray, classes: tuple[str, ...], settings: LabelSettings
) -> IntArray:
    """Go through images in the order of their worth and keep what a class still wants."""
    held = images.accepted[taught]
    by_class = held.sum(axis=0, dtype=np.int64)
    rarest = np.where(held > 0, by_class, np.iinfo(np.int64).max).min(axis=1)
    doubt = -images.doubt[taught].astype(np.float64)
    keys = {"rare": (lot[taught], doubt, rarest), "doubt": (lot[taught], rarest, doubt), "time": (taught,)}
    order = np.lexsort(keys[settings.first])
    limit = np.full(len(classes), np.inf)
    if settings.quota is not None:
        limit = np.array([settings.quota.of(label) for label in classes])
    most = (
        len(taught) if settings.max_images is None else round(settings.max_images * (1 - settings.negatives))
    )
    got, kept = np.zeros(len(classes), np.int64), 0
    for i in order.tolist():
        if kept >= most:
            images.out[taught[i]] = MAX_IMAGES
        elif not ((held[i] > 0) & (got < limit)).any():
            images.out[taught[i]] = QUOTA
        else:
            kept += 1
            got += held[i]
    rest: IntArray = taught[images.out[taught] == 0]
    return rest
