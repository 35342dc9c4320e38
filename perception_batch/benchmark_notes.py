"""What the figures of a benchmark say, one line each."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perception_batch.batch_sweep import Sweep, SweepRow


def notes_on(found: Sweep, images: int) -> list[str]:
    """Of a sweep over so many images."""
    notes = []
    largest = max(row.variant.batch_size for row in found.rows)
    if images < 8 * largest:
        notes.append(
            f"{images} images are few for batches of {largest}: start and end weigh; a longer log tells more"
        )
    row = found.row_of(found.recommended)
    notes += _on_ceilings(found, row)
    if found.stages is not None:
        reached = found.stages.share(row.images_per_s)
        notes.append(f"{found.stages.in_words()}; end to end reached {reached:.0%} of that")
    notes += _on_loops(found, row)
    if found.energy_absent:
        notes.append(f"energy is not known: {found.energy_absent}")
    return notes


def _on_ceilings(found: Sweep, row: SweepRow) -> list[str]:
    decode, device = (row.figures.get(name) for name in ("decode_alone_per_s", "device_alone_per_s"))
    if decode is None or device is None:
        return []
    if row.used["device"] == "cpu":
        shared = 1 / (1 / decode.median + 1 / device.median)
        return [
            (
                f"decoding and detection share {found.cores} cores: {decode.median:.1f} and "
                f"{device.median:.1f} images/s alone make about {shared:.1f} together"
            )
        ]
    if decode.median < device.median:
        workers = row.used["decode_workers"] or 1
        need = -(-workers * device.median // decode.median)
        return [
            (
                f"decoding is the limit: the device could take {device.median:.0f} images/s, {workers} workers decode "
                f"{decode.median:.0f}; about {need:.0f} cores would feed it"
            )
        ]
    return []


def _on_loops(found: Sweep, row: SweepRow) -> list[str]:
    times = []
    for loop in found.loops:
        if not loop.error and len(loop.by_turn) == len(row.by_turn):
            # Of one turn each: a machine that is slow for a while is slow for both.
            ratios = [ours / theirs for ours, theirs in zip(row.by_turn, loop.by_turn, strict=True)]
            times.append(
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) times the {loop.variant.backend}"
            )
    return [f"the recommended variant is {', '.join(times)}"] if times else []
