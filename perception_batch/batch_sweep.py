"""Batch sizes (and backends, image sizes, decode workers) against throughput: what is tried, and what follows."""

from __future__ import annotations

import csv
import io
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from perception_batch.batch_measurement import Request, to_json
from perception_batch.benchmark_notes import notes_on
from perception_batch.config import RunConfig
from perception_batch.errors import ModelError, printable
from perception_batch.job import Job, open_drive
from perception_batch.loop_rows import prepared_loops
from perception_batch.manifest_sections import usable_cores
from perception_batch.stage_costs import StageCosts

NEAR_BEST = 0.97
"""The recommended batch is the smallest with at least this share of the best throughput."""
FIGURES = (
    "images_per_s",
    "device_alone_per_s",
    "decode_alone_per_s",
    "device_busy",
    "batch_p50_ms",
    "batch_p95_ms",
    "peak_host_mb",
    "peak_cuda_mb",
    "startup_s",
    "cpu_j_per_1000",
    "gpu_j_per_1000",
    "euro_per_1000",
)
"""What is measured of each variant; the table holds median, least and most of each."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run."""

    backend: str
    """`detect.backend`; with ``:int8`` and the like `detect.precision` too."""
    image_size: int
    """`detect.image_size`, px."""
    workers: int | str
    """`decode.workers`."""
    batch_size: int
    """`detect.batch_size`."""

    def settings(self, config: RunConfig) -> dict[str, Any]:
        """All settings of a run in this way."""
        data = config.model_dump(mode="json", exclude_none=True)
        for section, values in self.keys().items():
            data[section] |= values
        return data

    def keys(self) -> dict[str, dict[str, Any]]:
        """The settings that make it, by section."""
        backend, _, precision = self.backend.partition(":")
        detect: dict[str, Any] = {
            "backend": backend,
            "image_size": self.image_size,
            "batch_size": self.batch_size,
        }
        if precision:
            detect["precision"] = precision
        return {"detect": detect, "decode": {"workers": self.workers}}


@dataclass(frozen=True, slots=True)
class Grid:
    """What is tried: every combination. Only the first image size is recommended for."""

    batch_sizes: tuple[int, ...]
    """Images in a batch."""
    backends: tuple[str, ...]
    """See `Variant`."""
    image_sizes: tuple[int, ...]
    """px."""
    workers: tuple[int | str, ...]
    """Threads that decode."""
    repeats: int
    """Runs of each."""

    def variants(self) -> list[Variant]:
        """In the order in which they are tried and shown."""
        return [
            Variant(*way, batch)
            for way in itertools.product(self.backends, self.image_sizes, self.workers)
            for batch in sorted(set(self.batch_sizes))
        ]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median of the repeats, and how far they lie apart."""

    median: float
    """The middle one."""
    least: float
    """The smallest."""
    most: float
    """The largest."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(*(round(value, 6) for value in (statistics.median(values), min(values), max(values))))


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One variant and its figures."""

    variant: Variant
    """As asked."""
    used: dict[str, Any]
    """Backend, precision, device, batch size and copies that it really had."""
    images: int
    """Images of one run."""
    figures: dict[str, Spread]
    """By a name of `FIGURES`, those that are known."""
    error: str = ""
    """Why it could not be measured."""
    by_turn: tuple[float, ...] = ()
    """Images a second of each repeat."""

    @property
    def images_per_s(self) -> float:
        """Median, end to end; 0 where it failed."""
        return self.figures["images_per_s"].median if not self.error else 0.0


@dataclass(frozen=True, slots=True)
class Sweep:
    """All that was measured."""

    log: tuple[str, ...]
    """Names of its files."""
    model: str
    """`detect.model`."""
    cores: int
    """That this process may use."""
    repeats: int
    """Runs of each variant."""
    rows: tuple[SweepRow, ...]
    """In the order of the grid."""
    recommended: Variant
    """See `recommend`."""
    loops: tuple[SweepRow, ...] = ()
    """What a user would write instead; no rivals of the rows."""
    stages: StageCosts | None = None
    """Of the recommended variant, where they were asked for."""
    energy_absent: str = ""
    """Why a figure of energy is not known."""
    notes: tuple[str, ...] = ()
    """One line each."""

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)

    def row_of(self, variant: Variant) -> SweepRow:
        """The row of a variant."""
        return next(row for row in self.rows if row.variant == variant)


@dataclass(frozen=True, slots=True)
class Beside:
    """What is measured and said beside the grid."""

    loops: tuple[str, ...] = ()
    """Names of `loop_rows.Loop`."""
    stages: bool = False
    """What the recommended variant's stages cost alone; on the CPU, where they share the cores."""
    euro_per_hour: float | None = None
    """Price of the machine."""


NOTHING = Beside()


def sweep(
    paths: tuple[Path, ...],
    config: RunConfig,
    cameras: tuple[str, ...] | None,
    images: int,
    grid: Grid,
    beside: Beside = NOTHING,
    say: Say = lambda _: None,
) -> Sweep:
    """Measure every variant, each repeat in a process of its own, all variants in turn before any comes again.

    Args:
        paths: the log of one drive.
        config: settings.
        cameras: only these.
        images: about so many from the start of the log; 0: all.
        grid: what is tried.
        beside: what else is measured.
        say: hears one line a measurement.

    Raises:
        LogError: nothing readable.
        ModelError: no variant works.
    """
    stop, count, cameras_used = _part(paths, config, cameras, images)
    names = tuple(str(path) for path in paths)
    variants = grid.variants()
    errors = _open_each(variants, config, names)
    found: dict[Variant, list[dict[str, Any]]] = {variant: [] for variant in variants}
    with prepared_loops(beside.loops, paths, config, images) as loops:
        ways = {
            Variant(f"{loop.name} loop", config.detect.image_size, "-", cameras_used): loop for loop in loops
        }
        found |= {way: [] for way in ways}
        for turn in range(grid.repeats):
            for variant in (*variants, *ways):
                if variant in errors:
                    continue
                if variant in ways:
                    result = ways[variant].measure()
                else:
                    first = variant.batch_size == min(grid.batch_sizes)
                    what = "run+decode" if first else "run"
                    settings = variant.settings(config)
                    result = in_own_process(Request(names, settings, cameras, stop, what))
                if "error" in result:
                    errors[variant] = str(result["error"])
                    say(f"{_name(variant)}: {printable(result['error'])}")
                    continue
                if beside.euro_per_hour is not None:
                    result["euro_per_1000"] = beside.euro_per_hour / 3.6 / result["images_per_s"]
                found[variant].append(result)
                say(f"turn {turn + 1}, {_name(variant)}: {result['images_per_s']:.1f} images/s")
    rows = tuple(_row(variant, found[variant], errors.get(variant, "")) for variant in variants)
    if all(row.error for row in rows):
        raise ModelError(rows[0].error)
    rows = tuple(_with_decoding(row, rows) for row in rows)
    chosen = recommend(rows)
    costs = None
    if beside.stages and next(row for row in rows if row.variant == chosen).used["device"] == "cpu":
        costs = _stage_costs(Request(names, chosen.settings(config), cameras, stop, "stages"))
    results = [result for variant in variants for result in found[variant]]
    made = Sweep(
        tuple(path.name for path in paths),
        config.detect.model,
        usable_cores(),
        grid.repeats,
        rows,
        chosen,
        tuple(_row(way, found[way], errors.get(way, "")) for way in ways),
        costs,
        next((str(r["energy_absent"]) for r in results if r.get("energy_absent")), ""),
    )
    return replace(made, notes=tuple(notes_on(made, count)))


def _stage_costs(request: Request) -> StageCosts | None:
    result = in_own_process(request)
    return None if "error" in result else StageCosts(result["stages_core_ms"], usable_cores())


def recommend(rows: Sequence[SweepRow]) -> Variant:
    """The smallest batch whose throughput is within 3 % of the best; of equal ones the faster.

    Image sizes other than the first are no rivals: they find other boxes.
    """
    size = rows[0].variant.image_size
    rivals = [row for row in rows if not row.error and row.variant.image_size == size]
    rivals = rivals or [row for row in rows if not row.error]
    best = max(row.images_per_s for row in rivals)
    near = [row for row in rivals if row.images_per_s >= NEAR_BEST * best]
    return min(near, key=lambda row: (row.variant.batch_size, -row.images_per_s)).variant


def batch_sizes_by_key(rows: Sequence[SweepRow]) -> dict[str, tuple[int, dict[int, float]]]:
    """What `detect.batch_size: auto` shall be: by key the recommended size, and images a second by size.

    Ways of which one size alone was tried tell nothing.
    """
    by_key: dict[str, list[SweepRow]] = {}
    for row in rows:
        key = row.used.get("batch_size_key")
        if key and not row.error:
            by_key.setdefault(key, []).append(row)
    found = {}
    for key, same in by_key.items():
        rates: dict[int, float] = {}
        for row in same:
            size = row.variant.batch_size
            rates[size] = max(rates.get(size, 0.0), row.images_per_s)
        if len(rates) > 1:
            found[key] = (recommend(same).batch_size, rates)
    return found


def in_own_process(request: Request) -> dict[str, Any]:
    """The figures of one measurement, or ``error``."""
    with tempfile.TemporaryDirectory(prefix="perception-batch-") as folder:
        source, target = Path(folder) / "request.json", Path(folder) / "figures.json"
        source.write_text(to_json(request), encoding="utf-8")
        command = [sys.executable, "-m", "perception_batch.batch_measurement", str(source), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode or not target.exists():
            last = done.stderr.strip().splitlines()[-1:] or ["no message"]
            why = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
            return {"error": f"the measurement ended with {why}: {last[0]}"}
        figures: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
        return figures


def as_csv(found: Sweep) -> str:
    """One line a variant."""
    out = io.StringIO()
    head = [
        "backend",
        "precision",
        "device",
        "image_size_px",
        "decode_workers",
        "batch_size",
        "images",
        "error",
    ]
    head += [f"{name}{part}" for name in FIGURES for part in ("", "_least", "_most")]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for row in (*found.rows, *found.loops):
        used, v = row.used, row.variant
        cells: list[Any] = [used.get("backend", v.backend), used.get("precision", ""), used.get("device", "")]
        cells += [v.image_size, v.workers, v.batch_size, row.images, row.error]
        for name in FIGURES:
            spread = row.figures.get(name)
            cells += ["", "", ""] if spread is None else [spread.median, spread.least, spread.most]
        writer.writerow(cells)
    return out.getvalue()


def _part(
    paths: tuple[Path, ...], config: RunConfig, cameras: tuple[str, ...] | None, images: int
) -> tuple[str | None, int, int]:
    """Where to stop for so many images, how many that gives by the index, and the number of cameras."""
    with open_drive(Job("benchmark", paths, Path(), config, cameras)) as opened:
        total = sum(opened.log.cameras[name].count for name in opened.selected)
        if not images or total <= images:
            return None, total, len(opened.selected)
        first = opened.head.first_stamp_ns
        length = max(opened.log.stop_ns - opened.log.start_ns, 1)
        return str(first + max(1, length * images // total)), images, len(opened.selected)


def _open_each(variants: Sequence[Variant], config: RunConfig, names: tuple[str, ...]) -> dict[Variant, str]:
    """Open every model once, so that no measurement has to export it; why that fails."""
    failed: dict[tuple[str, int], str] = {}
    for variant in variants:
        key = variant.backend, variant.image_size
        if key not in failed:
            result = in_own_process(Request(names, variant.settings(config), None, None, "open"))
            failed[key] = str(result.get("error", ""))
    return {v: failed[v.backend, v.image_size] for v in variants if failed[v.backend, v.image_size]}


def _row(variant: Variant, results: Sequence[dict[str, Any]], error: str) -> SweepRow:
    if error or not results:
        return SweepRow(variant, {}, 0, {}, error or "not measured")
    figures = {}
    for name in FIGURES:
        values = [float(result[name]) for result in results if result.get(name) is not None]
        if values:
            figures[name] = Spread.of(values)
    used = {key: results[0][key] for key in ("backend", "precision", "device", "batch_size", "copies")}
    used["batch_size_key"] = results[0].get("batch_size_key")
    used["decode_workers"] = next((r["decode_workers"] for r in results if "decode_workers" in r), None)
    rates = tuple(float(result["images_per_s"]) for result in results)
    return SweepRow(variant, used, int(results[0]["images"]), figures, by_turn=rates)


def _with_decoding(row: SweepRow, rows: Sequence[SweepRow]) -> SweepRow:
    """Decoding does not depend on the batch size: measured once for all of one group."""
    v = row.variant
    if row.error or "decode_alone_per_s" in row.figures:
        return row
    for other in rows:
        o = other.variant
        same = (o.backend, o.image_size, o.workers) == (v.backend, v.image_size, v.workers)
        if same and "decode_alone_per_s" in other.figures:
            figures = row.figures | {"decode_alone_per_s": other.figures["decode_alone_per_s"]}
            used = row.used | {"decode_workers": other.used["decode_workers"]}
            return replace(row, used=used, figures=figures)
    return row


def _name(variant: Variant) -> str:
    return (
        f"{variant.backend}, {variant.image_size} px, workers {variant.workers}, batch {variant.batch_size}"
    )
