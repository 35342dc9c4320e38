"""What limited a run, in words: from the time that its stages worked and that they waited at the seams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CHAIN = ("read", "decode", "detect", "fuse", "write")
"""The threads of a run in the order of the chain; each seam is named by the one that feeds it."""
_SHARES_OF = {"decode": ("decode", "letterbox"), "fuse": ("fuse", "draw"), "write": ("write", "encode")}
_OFTEN = 0.15
"""A stage that waits less than this share of the time hardly waits."""


def name_bottleneck(
    stages: Mapping[str, Mapping[str, Any]], waits: Mapping[str, Mapping[str, Any]], work_s: float, cores: int
) -> str:
    """One clause such as ``detect: decode waited 61 % of the time to hand over to it, ...``; empty without seams.

    The slowest is the stage that those beside it wait for, and that does not wait itself: waiting goes through a chain up to
    it from either end.

    Args:
        stages: `timing.stages` of ``run.json``.
        waits: `timing.waits`.
        work_s: time that the chain ran.
        cores: that the process may use.
    """
    if not waits or work_s <= 0:
        return ""
    present = [name for name in CHAIN if name in waits or name == "write"]
    slowest = max(present, key=lambda name: _pressure(name, present, waits))
    at = present.index(slowest)
    before, after = present[at - 1] if at else "", present[at + 1] if at + 1 < len(present) else ""
    clauses = []
    if before and waits[before]["put_s"] > _OFTEN * work_s:
        clauses.append(
            f"{before} waited {_percent(waits[before]['put_s'], work_s)} of the time to hand over to it"
        )
    if after and waits[slowest]["get_s"] > _OFTEN * work_s:
        clauses.append(f"{after} waited {_percent(waits[slowest]['get_s'], work_s)} for it")
    if not clauses:
        most = max(stages, key=lambda name: float(stages[name]["busy_s"]), default=slowest)
        return f"{most} worked longest; no stage waited long for another, they share {_cores(cores)}"
    most = _heaviest(slowest, stages)
    name = slowest if most == slowest else f"{slowest} ({most})"
    return f"{name}: {', '.join(clauses)}"


def _pressure(name: str, present: Sequence[str], waits: Mapping[str, Mapping[str, Any]]) -> float:
    """Seconds that those beside a stage waited for it, less those that it waited for them."""
    at = present.index(name)
    before = waits[present[at - 1]] if at else {"put_s": 0.0, "get_s": 0.0}
    after = waits.get(name, {"put_s": 0.0, "get_s": 0.0})
    return float(before["put_s"]) + float(after["get_s"]) - float(before["get_s"]) - float(after["put_s"])


def _heaviest(name: str, stages: Mapping[str, Mapping[str, Any]]) -> str:
    """The part of a thread's work that took longest."""
    parts = [part for part in _SHARES_OF.get(name, (name,)) if part in stages]
    return max(parts, key=lambda part: float(stages[part]["busy_s"]), default=name)


def _percent(part_s: float, whole_s: float) -> str:
    return f"{100 * min(part_s / whole_s, 1.0):.0f} %"


def _cores(count: int) -> str:
    return "one core" if count == 1 else f"{count} cores"
