"""The part of `inspect` that explains the grouping: what was found, what it means, what to set."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, Protocol

GAPS_LISTED = 4
_BAR = 40  # characters of the longest bar
_DEFAULTS = {"anchor": "reference"}  # not worth a line in what to set
_WHY_UNUSED = {
    "out_of_tolerance": "too far from the nearest timestep",
    "duplicate": "a second frame of its camera at one timestep",
    "resampled": "of a timestep that the settings leave out, or beside a grid's",
    "no_anchor": "no timestep near them: the reference (the trigger) was silent",
    "not_due": "of a camera faster than the timesteps",
    "policy": "of incomplete timesteps, which sync.policy leaves out",
    "bad_stamp": "a stamp that cannot be",
    "lead_in": "of a video, before its first key frame",
}


class Paper(Protocol):
    """What is written on; names from the log are made printable there."""

    def line(self, text: str) -> None:
        """One line."""
        ...

    def table(self, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
        """A table."""
        ...


def write_sync(paper: Paper, sync: Mapping[str, Any]) -> None:
    """Write what `inspection_sync.sync_facts` gathered."""
    paper.line("")
    paper.line("GROUPING")
    _summary(paper, sync)
    _cameras(paper, sync)
    _spread(paper, sync)
    _gaps(paper, sync)
    _tolerances(paper, sync)
    for reason, count in sync["unused"].items():
        paper.line(f"unused: {count} frames, {reason}: {_WHY_UNUSED.get(reason, 'see docs/formats.md')}")
    _recommendation(paper, sync)
    for note in sync["notes"]:
        paper.line(f"note: {note}")


def _summary(paper: Paper, sync: Mapping[str, Any]) -> None:
    made_by = {
        "reference": f"one at each frame of {sync['reference']}",
        "grid": "one at each tick of a fixed grid",
        "tightest": "the tightest grouping of the whole drive",
        "trigger": "one at each trigger",
    }[sync["anchor"]]
    count, complete = sync["timesteps"], sync["complete"]
    share = f" ({100 * complete / count:.1f} %)" if count else ""
    rate = f", every {sync['step_ms']:.1f} ms" if sync["step_ms"] else ""
    paper.line(
        f"{count} timestep{'s' if count != 1 else ''} ({made_by}{rate}); {complete}{share} have every camera that was due, "
        f"{sync['incomplete']} incomplete"
    )
    if len(sync["cameras"]) > 1:
        paper.line(f"tolerance {sync['tolerance_ms']:.1f} ms to either side of a timestep, offsets taken off")


def _cameras(paper: Paper, sync: Mapping[str, Any]) -> None:
    columns = ("camera", "frames", "coverage", "ok", "missing", "not due", "held", "offset", "jitter")
    rows: list[tuple[str, ...]] = []
    for name, camera in sync["cameras"].items():
        counts = [str(camera[key]) for key in ("ok", "missing", "not_due", "held")]
        clock = (f"{camera['offset_ms']:+.1f} ms", f"{camera['jitter_ms']:.1f} ms", _drift(camera))
        if sync["anchor"] != "trigger" and name == sync["reference"]:
            clock = ("reference", "", "")
        elif not sync["step_ms"]:  # nothing repeats, so there is nothing usual
            seen = camera["after_ms"]
            clock = ("-" if seen is None else f"{seen:+.1f} ms once", "-", "too short to tell")
        rows.append((name, str(camera["frames"]), _percent(camera["coverage"]), *counts, *clock))
    paper.table((*columns, "drift"), rows)
    if len(rows) > 1:
        whose = "the trigger" if sync["anchor"] == "trigger" else "the reference"
        paper.line(
            f"  offset: how long after {whose} it usually fires; jitter: how much that varies (1 sigma); drift: how "
            f"much faster its clock runs than that of {whose} (+- 1 sigma; 10 ppm are 36 ms an hour)"
        )


def _drift(camera: Mapping[str, Any]) -> str:
    sd = camera["drift_sd_ppm"]
    if sd is None:
        return "too short to tell"
    ppm = camera["drift_ppm"]
    return f"{ppm:+.1f} +- {sd:.1f} ppm" if abs(ppm) > 3 * sd else f"none seen (+- {sd:.1f} ppm)"


def _spread(paper: Paper, sync: Mapping[str, Any]) -> None:
    spread, aligned = sync["spread_ms"], sync["aligned_ms"]
    if not spread:
        return
    paper.line("")
    paper.line(
        f"spread (first to last exposure of a timestep): median {spread['p50']:.1f} ms, 95 % {spread['p95']:.1f}, "
        f"99 % {spread['p99']:.1f}, largest {spread['max']:.1f}"
    )
    if sync["step_ms"]:
        paper.line(
            f"  of that, jitter and drift alone (each camera's offset taken off): median {aligned['p50']:.1f} ms, "
            f"95 % {aligned['p95']:.1f}, 99 % {aligned['p99']:.1f}, largest {aligned['max']:.1f}"
        )
    bins = sync["histogram"]
    seen = [i for i, one in enumerate(bins) if one["timesteps"]]
    most, total = max(one["timesteps"] for one in bins), sum(one["timesteps"] for one in bins)
    for one in bins[seen[0] : seen[-1] + 1]:
        to = f"{one['to_ms']:3.0f}" if one["to_ms"] is not None else "..."
        bar = "#" * max(1, round(_BAR * one["timesteps"] / most)) if one["timesteps"] else ""
        share = 100 * one["timesteps"] / total
        paper.line(
            f"  {one['from_ms']:3.0f} to {to} ms  {one['timesteps']:7d} {share:5.1f} %  {bar}".rstrip()
        )


def _gaps(paper: Paper, sync: Mapping[str, Any]) -> None:
    rows: list[tuple[str, ...]] = []
    having = {name: camera for name, camera in sync["cameras"].items() if camera["gaps"]}
    if not having:
        paper.line("no gaps: no camera is silent for more than one and a half of its periods")
        return
    paper.line("")
    paper.line("gaps (silent for more than one and a half periods; seconds from the first stamp):")
    for name, camera in having.items():
        gaps = camera["gaps"]
        longest = sorted(gaps, key=lambda gap: -gap["duration_s"])[:GAPS_LISTED]
        told = ", ".join(
            f"{gap['time_s']:.2f} s ({gap['missing']})"
            for gap in sorted(longest, key=lambda gap: gap["time_s"])
        )
        more = f" and {len(gaps) - GAPS_LISTED} more" if len(gaps) > GAPS_LISTED else ""
        missing = sum(gap["missing"] for gap in gaps)
        rows.append((name, str(len(gaps)), str(missing), f"{told}{more}"))
    paper.table(("camera", "gaps", "frames lost", "longest, at (frames lost)"), rows)


def _tolerances(paper: Paper, sync: Mapping[str, Any]) -> None:
    names = list(sync["cameras"])
    if len(names) < 2:
        return
    paper.line("")
    paper.line(
        f"what a tolerance would give: share of the frames of {sync['reference']} with all cameras near, and of each "
        f"camera's frames near one of {sync['reference']}"
    )
    lines: list[tuple[list[float], tuple[str, ...]]] = []  # tolerances that give the same share a line
    for row in sync["tolerances"]:
        shares = (row["complete"], row["complete_without_offsets"], *(row["matched"][name] for name in names))
        cells = ("" if row["is_allowed"] else "  too large", *map(_percent, shares))
        if lines and lines[-1][1] == cells:
            lines[-1][0].append(row["tolerance_ms"])
        else:
            lines.append(([row["tolerance_ms"]], cells))
    rows = []
    now = sync["tolerance_ms"]
    last_ms = max((tried[0] for tried, _ in lines if tried[0] <= now), default=None)
    for tried, (mark, *rest) in lines:
        label = f"{tried[0]:g} ms" if len(tried) == 1 else f"{tried[0]:g} to {tried[-1]:g} ms"
        rows.append((label + mark + (f"  <- now {now:.1f}" if tried[0] == last_ms else ""), *rest))
    paper.table(("tolerance", "all near", "by raw stamps", *names), rows)
    paper.line(
        "  all near: offsets taken off, as grouping does; by raw stamps: without, as a plain nearest-stamp match would; "
        "too large: half the reference's period or more, so a frame could belong to two timesteps"
    )


def _recommendation(paper: Paper, sync: Mapping[str, Any]) -> None:
    advice = sync["recommendation"]
    settings = {k: v for k, v in advice["settings"].items() if _DEFAULTS.get(k) != v}
    paper.line("")
    if set(settings) <= {"reference"}:
        paper.line("recommended: nothing to set")
    else:
        words = [shlex.quote(f"sync.{key}={_value(value)}") for key, value in settings.items()]
        paper.line("recommended: " + " ".join(f"--set {word}" for word in words))
        inner = ", ".join(f"{key}: {_value(value)}" for key, value in settings.items())
        paper.line(f"  or in a config file: sync: {{{inner}}}")
    for reason in advice["reasons"]:
        paper.line(f"  why: {reason}")


def _value(value: str | float) -> str:
    """As YAML: a plain word or number as it is, other text in quotes."""
    if isinstance(value, str):
        plain = value.replace("_", "a").replace("-", "a").isalnum() and value[:1].isalpha()
        words = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
        return value if plain and value.lower() not in words else json.dumps(value)
    return f"{value:g}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
