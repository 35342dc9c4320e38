"""Figures of a collection as a text file for Prometheus' node exporter (its textfile collector).

The format is the text exposition format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/). Gauges alone,
written whole: the official client is made for servers that are asked, with registries and threads of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from perception_batch.atomic import write_whole
from perception_batch.runs.status import DriveStatus, counts

NAME = "perception_batch.prom"
_METRIC = re.compile(r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
_LABEL = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_]*$")


@dataclass(frozen=True, slots=True)
class Gauge:
    """One figure, or one family of them."""

    name: str
    """Letters, digits, ``_`` and ``:``; the unit at its end."""
    help: str
    """One line."""
    samples: tuple[tuple[Mapping[str, str], float], ...]
    """Labels and value of each."""


def exposition(gauges: Iterable[Gauge]) -> str:
    """The text of a scrape.

    Raises:
        ValueError: a name that Prometheus does not take, two families of one name, or two samples with equal labels.
    """
    lines: list[str] = []
    names: set[str] = set()
    for gauge in gauges:
        if not _METRIC.match(gauge.name) or gauge.name in names:
            raise ValueError(f"{gauge.name!r} is no name of a metric, or comes twice")
        names.add(gauge.name)
        lines += [f"# HELP {gauge.name} {_escaped(gauge.help)}", f"# TYPE {gauge.name} gauge"]
        seen: set[str] = set()
        for labels, value in gauge.samples:
            if wrong := [label for label in labels if not _LABEL.match(label) or label.startswith("__")]:
                raise ValueError(f"{gauge.name}: {wrong[0]!r} is no name of a label")
            inside = ",".join(f'{k}="{_escaped(v, quoted=True)}"' for k, v in sorted(labels.items()))
            if inside in seen:
                raise ValueError(f"{gauge.name}: two samples with the labels {inside!r}")
            seen.add(inside)
            lines.append(
                f"{gauge.name}{{{inside}}} {_number(value)}" if inside else f"{gauge.name} {_number(value)}"
            )
    return "\n".join(lines) + "\n" if lines else ""


def collection_gauges(statuses: Iterable[DriveStatus], finished_s: float, exit_status: int) -> list[Gauge]:
    """What a night is watched by.

    Args:
        statuses: every drive of the collection.
        finished_s: when the last run ended, seconds since 1970.
        exit_status: of that run.
    """
    listed = list(statuses)
    none: Mapping[str, str] = {}
    by_state = tuple(({"state": state}, float(n)) for state, n in counts(listed).items())
    wall_s = sum(status.wall_s for status in listed)
    return [
        Gauge("perception_batch_drives", "Drives of the collection by state.", by_state),
        Gauge(
            "perception_batch_frames",
            "Camera frames of all finished drives.",
            ((none, float(sum(s.frames for s in listed))),),
        ),
        Gauge("perception_batch_work_seconds", "Seconds that all finished drives took.", ((none, wall_s),)),
        Gauge(
            "perception_batch_drives_with_losses",
            "Finished drives whose log lacked something.",
            ((none, float(sum(bool(s.losses) for s in listed))),),
        ),
        Gauge(
            "perception_batch_last_run_timestamp_seconds",
            "When the last run ended, since 1970.",
            ((none, finished_s),),
        ),
        Gauge(
            "perception_batch_last_run_exit_status",
            "Exit status of the last run.",
            ((none, float(exit_status)),),
        ),
    ]


def write_exposition(path: Path, gauges: Iterable[Gauge]) -> None:
    """Write the file in one piece: the collector never sees a part.

    Raises:
        WriteError: the disk is full or refuses.
    """
    write_whole(path, exposition(gauges).encode("utf-8", "backslashreplace"))


def _escaped(text: str, *, quoted: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quoted else text


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(int(value)) if value.is_integer() and abs(value) < 1 << 53 else repr(float(value))
