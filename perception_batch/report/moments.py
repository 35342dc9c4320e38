"""The moments of a drive that are worth a look first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perception_batch.report.number_text import decimal, plural
from perception_batch.report.run_files import MISSING, FloatArray, RunFiles
from perception_batch.report.series import Series

_EACH = 3
_APART_S = 1.0


@dataclass(frozen=True, slots=True)
class Moment:
    """One timestep, and why."""

    step: int
    """Place of the timestep."""
    kind: str
    """What it is the worst in."""
    why: str
    """The figure."""


def worst_moments(run: RunFiles, series: Series) -> list[Moment]:
    """Up to three each of the largest spread, lost frames and doubt, a second apart and by time within each kind."""
    spread = np.nan_to_num(series.spread_ms)
    # A spread that is the same all along is how the cameras fire, and no moment.
    usual = float(np.median(spread)) if len(spread) else 0.0
    out = [
        Moment(step, "largest spread", f"{decimal(spread[step])}\u00a0ms between cameras")
        for step in _peaks(np.where(spread > 1.1 * usual + 0.5, spread, 0), series.seconds)
    ]
    for step in _peaks(series.without.astype(float), series.seconds):
        names = [n for n, s in zip(run.cameras, run.status[step].tolist(), strict=True) if s >= MISSING]
        more = f" and {plural(len(names) - 2, 'more', 'more')}" if len(names) > 2 else ""
        out.append(Moment(step, "lost frames", f"no image of {', '.join(names[:2])}{more}"))
    for step in _peaks(series.doubt, series.seconds):
        total = int(series.per_class[step].sum())
        out.append(
            Moment(step, "most doubt", f"{plural(total, 'object')}, doubt {decimal(series.doubt[step])}")
        )
    return out


def _peaks(values: FloatArray, seconds: FloatArray) -> list[int]:
    """Places of the largest values above 0, a while apart, by time."""
    chosen: list[int] = []
    for place in np.argsort(-values, kind="stable").tolist():
        if values[place] <= 0 or len(chosen) == _EACH:
            break
        if all(abs(seconds[place] - seconds[other]) >= _APART_S for other in chosen):
            chosen.append(place)
    return sorted(chosen)
