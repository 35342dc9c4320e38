"""Whether the frames of a timestep are those that truly belong together."""

from __future__ import annotations

from collections import Counter

from perception_batch.evaluate.pairing import pictures_by_stamp
from perception_batch.evaluate.report import Skipped, SyncFigures
from perception_batch.evaluate.run_tables import RunTables
from perception_batch.evaluate.truth import Truth


def score_sync(run: RunTables, truth: Truth) -> SyncFigures | Skipped:
    """Count timesteps that are exactly one true set, mixed, or short of a frame that the log holds."""
    if not truth.knows_pictures:
        return Skipped("the truth does not say which frames belong together")
    cameras = set(run.cameras)
    members: dict[int, set[int]] = {}
    for row, picture in enumerate(truth.pictures):
        if picture.in_set and picture.camera in cameras:
            members.setdefault(picture.frame, set()).add(row)
    if not members:
        return Skipped("none of the run's cameras is in the truth")
    found = pictures_by_stamp(run, truth)
    exact = mixed = short = unknown = 0
    made: set[int] = set()
    for number, step in enumerate(run.steps):
        rows = found.get(number, {})
        frames = Counter(truth.pictures[row].frame for row in rows.values())
        if not step.pictures:
            continue
        if len(rows) < len(step.pictures):
            unknown += 1
        elif len(frames) > 1 or not all(truth.pictures[row].in_set for row in rows.values()):
            mixed += 1
        elif set(rows.values()) < members[next(iter(frames))]:
            short += 1
        else:
            exact += 1
            made.add(next(iter(frames)))
    steps = exact + mixed + short + unknown
    return SyncFigures(
        timesteps=steps,
        exact=exact,
        mixed=mixed,
        short=short,
        unknown=unknown,
        exact_share=exact / steps if steps else None,
        true_sets=len(members),
        true_sets_made=len(made),
    )
