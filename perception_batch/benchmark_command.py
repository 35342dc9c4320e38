"""The words of `perception-batch benchmark`. Only argparse is imported until the command runs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_batch.command_options import add_settings, count, number, positive_count

if TYPE_CHECKING:
    from perception_batch.batch_sweep import Grid, Sweep, SweepRow
    from perception_batch.config import RunConfig

EXAMPLE = (
    "example: perception-batch benchmark drive.bag --model yolo11n.pt --batch-sizes 1,4,16 --out benchmark"
)
_BACKENDS = ("auto", "torch", "openvino", "onnx", "tensorrt")
_PRECISIONS = ("fp32", "bf16", "fp16", "int8")
_COSTS = (
    ("kJ/1000", ("cpu_j_per_1000", "gpu_j_per_1000"), 2),
    ("euro/1000", ("euro_per_1000",), 5),
)
FILES = ("benchmark.json", "benchmark.csv", "benchmark.png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument("log", nargs="+", metavar="LOG", help="file, bag folder, or split files of one drive")
    parser.add_argument("--model", metavar="WEIGHTS", help="detect.model")
    add_settings(parser)
    parser.add_argument("--device", metavar="auto|cpu|cuda:N", help="detect.device")
    parser.add_argument("--cameras", metavar="A,B", help="only these cameras")
    parser.add_argument("--no-video", action="store_true", help="without drawing and encoding annotated.mp4")
    parser.add_argument(
        "--batch-sizes", type=_wholes, default=(1, 2, 4, 8, 16, 32), metavar="A,B", help="(1,2,4,8,16,32)"
    )
    parser.add_argument(
        "--backends",
        type=_backends,
        metavar="A,B",
        help="such as torch,openvino,openvino:int8 (detect.backend)",
    )
    parser.add_argument("--image-sizes", type=_wholes, metavar="A,B", help="px (detect.image_size)")
    parser.add_argument("--workers", type=_wholes, metavar="A,B", help="threads that decode (decode.workers)")
    parser.add_argument(
        "--images", type=count, default=300, metavar="N", help="of the start of the log; 0: all (300)"
    )
    parser.add_argument("--repeats", type=positive_count, default=3, metavar="N", help="runs of each (3)")
    parser.add_argument(
        "--loops",
        action="store_true",
        help="also what one would write without this program: rows plain loop (YOLO.predict per timestep) and "
        "informed loop (on Ultralytics' OpenVINO export)",
    )
    parser.add_argument(
        "--stages",
        action="store_true",
        help="also what each stage costs alone, and the share of that bound reached (CPU)",
    )
    parser.add_argument(
        "--euro-per-hour", type=number, metavar="EURO", help="price of the machine, for euro per 1,000 images"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("benchmark"), metavar="DIR", help="folder of the files (benchmark)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier benchmark left")
    parser.add_argument(
        "--apply", type=Path, metavar="FILE", help="write the size to use into this settings file"
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def run_command(arguments: argparse.Namespace) -> int:
    """Measure, write the files, print the table and the batch size to use; the exit status.

    Raises:
        ConfigError: settings.
        LogError: nothing readable.
        ModelError: the model works in no way that was asked.
        WriteError: results of an earlier benchmark would be lost, or the files cannot be written.
    """
    from perception_batch.apply_settings import apply_settings
    from perception_batch.batch_plot import plot_sweep
    from perception_batch.batch_sweep import Beside, Grid, as_csv, batch_sizes_by_key, sweep
    from perception_batch.config import load_config
    from perception_batch.detect import remember_batch_size
    from perception_batch.errors import EXIT_OK, WriteError, printable
    from perception_batch.read import log_path
    from perception_batch.write.atomic import write_whole

    out: Path = arguments.out
    if not arguments.overwrite and any((out / name).exists() for name in FILES):
        raise WriteError(f"{printable(out)} holds a benchmark already; give --overwrite or another --out")
    overrides = list(arguments.set)
    for key, value in (("model", arguments.model), ("device", arguments.device)):
        overrides += [] if value is None else [f"detect.{key}={json.dumps(value)}"]
    overrides += ["render.video=false"] if arguments.no_video else []
    config = load_config(arguments.config, overrides)
    if arguments.apply is not None and arguments.apply.exists():
        load_config(arguments.apply)  # what is wrong with it is said before the work
    names = arguments.cameras
    grid = Grid(
        arguments.batch_sizes,
        arguments.backends or (config.detect.backend,),
        arguments.image_sizes or (config.detect.image_size,),
        arguments.workers or (config.decode.workers,),
        arguments.repeats,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"{printable(out)}: cannot be made: {error.strerror}") from None
    found = sweep(
        tuple(map(log_path, arguments.log)),
        config,
        None if names is None else tuple(name.strip() for name in names.split(",") if name.strip()),
        arguments.images,
        grid,
        Beside(_loops() if arguments.loops else (), arguments.stages, arguments.euro_per_hour),
        _say,
    )
    report = found.to_dict() | {"apply": _keys(found, grid, config)}
    text = json.dumps(report, indent=1, allow_nan=False) + "\n"
    write_whole(out / "benchmark.json", text.encode())
    write_whole(out / "benchmark.csv", as_csv(found).encode())
    plot_sweep(found, out / "benchmark.png")
    for key, (size, rates) in batch_sizes_by_key(found.rows).items():
        remember_batch_size(key, size, rates, "benchmark")
    if arguments.apply is not None:
        apply_settings(arguments.apply, _keys(found, grid, config))
    sys.stdout.write(text if arguments.json else as_text(found, out, arguments.apply))
    return EXIT_OK


def _keys(found: Sweep, grid: Grid, config: RunConfig) -> dict[str, dict[str, Any]]:
    """What a settings file must say for the recommended way: the batch size, and what was varied beside it."""
    keys = found.recommended.keys()
    out: dict[str, dict[str, Any]] = {"detect": {"batch_size": keys["detect"]["batch_size"]}}
    if grid.backends != (config.detect.backend,):
        out["detect"] |= {
            name: keys["detect"][name] for name in ("backend", "precision") if name in keys["detect"]
        }
    if grid.workers != (config.decode.workers,):
        out["decode"] = keys["decode"]
    return out


def as_text(found: Sweep, out: Path, applied: Path | None) -> str:
    """For people."""
    from perception_batch.errors import printable
    from perception_batch.text_columns import columns

    good = [row for row in found.rows if not row.error]
    images = sorted({row.images for row in good})
    lines = [
        f"{printable(', '.join(found.log))}: {'-'.join(map(str, images))} images a run, median of {found.repeats} (least-most); {found.cores} cores",
        "",
    ]
    head: tuple[str, ...] = (
        "backend",
        "px",
        "workers",
        "batch",
        "images/s",
        "device alone",
        "decode alone",
        "device busy",
        "batch p50 ms",
        "p95 ms",
        "host MB",
        "CUDA MB",
    )
    shown = [*good, *(row for row in found.loops if not row.error)]
    table = [_cells(row, row.variant == found.recommended) for row in shown]
    for title, names, digits in _COSTS:  # columns that hardly any machine can fill
        if any(name in row.figures for row in shown for name in names):
            head = (*head, title)
            table = [(*cells, _sum(row, names, digits)) for cells, row in zip(table, shown, strict=True)]
    lines += columns(head, table)
    lines += [
        f"failed: {row.variant.backend}, {row.variant.image_size} px, batch {row.variant.batch_size}: {printable(row.error)}"
        for row in (*found.rows, *found.loops)
        if row.error
    ]
    v = found.recommended
    lines += ["", *(f"note: {note}" for note in found.notes)]
    lines.append(
        f"* use detect.batch_size={v.batch_size} ({v.backend}, {v.image_size} px, workers {v.workers}): the smallest "
        "within 3 % of the best"
    )
    if applied is not None:
        lines.append(f"written into {printable(applied)}")
    lines.append(f"files: {printable(out)}: {', '.join(FILES)}")
    return "\n".join(lines) + "\n"


def _cells(row: SweepRow, chosen: bool) -> tuple[str, ...]:
    def figure(name: str, digits: int, scale: float = 1.0) -> str:
        spread = row.figures.get(name)
        return "-" if spread is None else f"{scale * spread.median:.{digits}f}"

    rate = row.figures["images_per_s"]
    v = row.variant
    busy = figure("device_busy", 0, 100)
    return (
        f"{row.used['backend']} {row.used['precision']}".strip(),
        str(v.image_size),
        str(row.used.get("decode_workers") or v.workers),
        f"{v.batch_size}{'*' if chosen else ' '}",
        f"{rate.median:.1f} ({rate.least:.1f}-{rate.most:.1f})",
        figure("device_alone_per_s", 1),
        figure("decode_alone_per_s", 1),
        busy if busy == "-" else f"{busy} %",
        figure("batch_p50_ms", 1),
        figure("batch_p95_ms", 1),
        figure("peak_host_mb", 0),
        figure("peak_cuda_mb", 0),
    )


def _sum(row: SweepRow, names: tuple[str, ...], digits: int) -> str:
    """Of figures in joules as kJ, of one in euro as it is."""
    known = [row.figures[name].median for name in names if name in row.figures]
    return f"{sum(known) / (1e3 if len(names) > 1 else 1):.{digits}f}" if known else "-"


def _loops() -> tuple[str, ...]:
    """The loops; where the processor has a fast 16-bit arithmetic, the informed one without it too."""
    from perception_batch.detect.openvino_backend import has_bf16

    return ("plain", "informed", "informed-fp32") if has_bf16() else ("plain", "informed")


def _say(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(line + "\n")


def _wholes(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(positive_count(part) for part in text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a list of numbers such as 1,2,4") from None


def _backends(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        backend, colon, precision = name.partition(":")
        if backend not in _BACKENDS or (colon and precision not in _PRECISIONS):
            raise argparse.ArgumentTypeError(
                f"{name} is not one of {', '.join(_BACKENDS)}, with :fp32, :bf16, :fp16 or :int8 or without"
            )
    return names
