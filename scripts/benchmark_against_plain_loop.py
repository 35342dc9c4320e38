#!/usr/bin/env python3
"""`perception-batch run` beside the two loops that a user would write without it (`perception_batch.plain_loop`).

    python scripts/benchmark_against_plain_loop.py LOG [LOG ...] --model yolo11n.pt [--images 300] [--runs 5]
        [--rows plain,informed,informed-fp32,fp32,bf16,int8,bf16-reduced,int8-reduced] [--int8 FOLDER] [--informed FOLDER] [--batch-size N] [--video both|yes|no]
        [--no-stages] [--json FILE]

Each recording is looped to a log of that many images in a temporary folder. Then the rows take turns, each in a process of
its own (importing Ultralytics changes the threads of a process), and each is compared with the loops of its own turn, so that a
machine that is slow for a while is slow for all.

    plain          rosbags, `YOLO.predict` per timestep on the .pt, OpenCV's mosaic video
    informed       the same on Ultralytics' own dynamic OpenVINO export, which it runs in bfloat16 where the processor is
                   faster in that (Intel's AMX); informed-fp32: the same without that
    fp32           ours as it comes: detect.backend auto, which is OpenVINO where that is installed
    bf16, int8     ours with detect.precision; int8 is exported first, calibrated on the log itself, or given by --int8
    bf16-reduced, int8-reduced   the same with decode.reduced, which changes boxes (docs/detect.md)

    images/s   all images / the process' time from its start to its exit: imports, loading the model, the work, closing files
    steady     the loops: without imports, loading and the first timestep with its warm-up;
               ours: without imports, opening the log and loading, but with the first batch and its warm-up
    CPU ms     CPU time of the process an image, all cores and start-up together: hardly depends on what else runs
    peak MB    the most memory (RSS) that the process held, 10^6 bytes; no program has others working for it
    others     cores that other processes kept busy meanwhile (where /proc tells); far from 0 the figures mean little
    / plain    by images/s, of the same turn; / informed likewise

Shown is the median over the turns, and in brackets the least and the most.

Under the table stands what each stage of ours costs alone: CPU time an image in a run without threads on one core, of the same log and
settings (`perception_batch.stage_costs`). The cores together cannot do more than 1000 * cores / the sum; how much of that the turns
reached is the share of the bound, by the steady images/s, which leave out the start-up as the stages do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from loop_recording import Looped, loop_recording

from perception_batch.batch_measurement import Request
from perception_batch.batch_sweep import in_own_process
from perception_batch.config import load_config
from perception_batch.manifest_sections import usable_cores
from perception_batch.process_cost import Process, measure
from perception_batch.stage_costs import StageCosts

LOOPS = ("plain", "informed", "informed-fp32")
OURS = ("fp32", "bf16", "int8", "bf16-reduced", "int8-reduced")
USUAL = ("plain", "informed", "fp32", "int8")
_TIMED_RUN = Path(__file__).with_name("timed_run.py")
YARDSTICKS = ("plain", "informed", "informed-fp32")


@dataclass(frozen=True, slots=True)
class Models:
    """What the rows load."""

    weights: str
    """The .pt file."""
    informed: str
    """Ultralytics' OpenVINO export of it; empty where no row wants it."""
    int8: str
    """Our INT8 export of it; empty where no row wants it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One process."""

    program: str
    """One of `LOOPS` or `OURS`."""
    turn: int
    """Counts from 0; programs of one turn are compared."""
    images: int
    """Images that it processed."""
    wall_s: float
    """From its start to its exit."""
    steady_images: int
    """Images of the steady part ..."""
    steady_s: float
    """... and its time."""
    cpu_s: float
    """User and system time."""
    peak_mb: float
    """Largest resident memory, 10^6 bytes."""
    other_cores: float
    """Cores that other processes kept busy meanwhile; NaN where the system does not tell."""
    run: dict[str, Any]
    """Ours: backend, precision, batch size and `timing` of ``run.json``."""

    @property
    def images_per_s(self) -> float:
        """With start-up."""
        return self.images / self.wall_s

    @property
    def steady_images_per_s(self) -> float:
        """Without start-up; 0 where the log is too short to tell."""
        return self.steady_images / self.steady_s if self.steady_images and self.steady_s > 0 else 0.0


def measure_loop(looped: Looped, models: Models, program: str, turn: int, *, video: bool) -> Measured:
    """One run of a loop."""
    model = models.weights if program == "plain" else models.informed
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "perception_batch.plain_loop", str(looped.path), "--model", model]
        command += ["--out", name, "--rate-hz", str(1e9 / looped.period_ns)]
        command += [] if video else ["--no-video"]
        command += ["--fp32"] if program == "informed-fp32" else []
        used = measure(command, Path(name))
    said = json.loads(used.last_line)
    return _measured(used, program, turn, said["images"], said["steady_images"], said["steady_s"], {})


def settings_of(program: str) -> list[str]:
    """What makes one of ours what it is called."""
    precision, _, reduced = program.partition("-")
    return [f"detect.precision={precision}", *(["decode.reduced=true"] if reduced else [])]


def model_of(program: str, models: Models) -> str:
    """What one of ours loads."""
    return models.int8 if program.startswith("int8") else models.weights


def measure_ours(
    looped: Looped, models: Models, program: str, turn: int, *, video: bool, settings: Sequence[str]
) -> Measured:
    """One run of `perception-batch run`."""
    model = model_of(program, models)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, str(_TIMED_RUN), str(folder / "steady.json")]
        command += ["run", str(looped.path), "--out", str(folder / "out"), "--model", model]
        for setting in (*settings_of(program), *settings):
            command += ["--set", setting]
        command += [] if video else ["--no-video"]
        used = measure(command, folder)
        manifest = json.loads(next((folder / "out").glob("*/run.json")).read_text())
        steady_s = json.loads((folder / "steady.json").read_text())
    images = manifest["counts"]["frames_used"]
    run = {key: manifest["model"][key] for key in ("backend", "precision")}
    run |= {"batch_size": manifest["batch_size"], "timing": manifest["timing"]}
    return _measured(used, program, turn, images, images, steady_s, run)


def _measured(
    used: Process,
    program: str,
    turn: int,
    images: int,
    steady_images: int,
    steady_s: float,
    run: dict[str, Any],
) -> Measured:
    steady = (steady_images, steady_s)
    return Measured(
        program, turn, images, used.wall_s, *steady, used.cpu_s, used.peak_mb, used.other_cores, run
    )


def ratios(rows: Sequence[Measured], program: str, to: str) -> list[float]:
    """Of each turn that has both: images/s with start-up, of `program` over `to`."""
    of = {row.turn: row.images_per_s for row in rows if row.program == to}
    return [row.images_per_s / of[row.turn] for row in rows if row.program == program and row.turn in of]


def table(rows: Sequence[Measured]) -> list[str]:
    """A line for each program, under a header."""
    programs = list(dict.fromkeys(row.program for row in rows))
    beside = [name for name in YARDSTICKS if name in programs]
    out = [
        f"{'':<17} {'images/s':>18} {'steady':>18} {'CPU ms':>16} {'peak MB':>8} {'others':>6}"
        + "".join(f"  {'/ ' + name:<18}" for name in beside)
    ]
    for program in programs:
        own = [row for row in rows if row.program == program]
        line = f"{program if program in LOOPS else 'ours ' + program:<17} "
        line += f"{spread([row.images_per_s for row in own]):>18} "
        line += f"{spread([row.steady_images_per_s for row in own]):>18} "
        line += f"{spread([1e3 * row.cpu_s / row.images for row in own], 0):>16} "
        line += f"{max(row.peak_mb for row in own):>8.0f} "
        line += f"{statistics.median(row.other_cores for row in own):>6.2f}"
        line += "".join(f"  {spread(ratios(rows, program, name), 2):<18}" for name in beside)
        out.append(line.rstrip())
    return [line.rstrip() for line in out]


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median, and in brackets the least and the most."""
    if not values:
        return "-"
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def stages_alone(
    looped: Looped, models: Models, row: Measured, *, video: bool, settings: Sequence[str]
) -> StageCosts:
    """What the stages of one of ours cost, at the batch size that its run had.

    Raises:
        RuntimeError: the run failed.
    """
    program, batch = row.program, row.run["batch_size"]
    own = [f"detect.model={json.dumps(model_of(program, models))}"]
    own += [*settings_of(program), *settings, f"detect.batch_size={batch}"]
    own += [f"render.video={json.dumps(video)}"]
    config = load_config(None, own).model_dump(mode="json", exclude_none=True)
    found = in_own_process(Request((str(looped.path),), config, None, None, "stages"))
    if "error" in found:
        raise RuntimeError(str(found["error"]))
    return StageCosts(found["stages_core_ms"], usable_cores())


def share_of_bound(costs: StageCosts, rows: Sequence[Measured], program: str) -> list[str]:
    """Lines under the table."""
    own = [row for row in rows if row.program == program]
    shares = [100 * costs.share(row.steady_images_per_s) for row in own]
    whole = [100 * costs.share(row.images_per_s) for row in own]
    return [
        f"  ours {program}, {costs.in_words()}",
        f"  ours {program}, share of the bound: {spread(shares)} %, with start-up {spread(whole)} %",
    ]


def where_time_goes(row: Measured) -> list[str]:
    """Milliseconds an image of work in each stage, and seconds waited at the seams, of one run of ours."""
    timing = row.run["timing"]
    stages = ", ".join(
        f"{name} {1e3 * stage['busy_s'] / row.images:.1f}" for name, stage in timing["stages"].items()
    )
    waits = ", ".join(
        f"{name} {wait['put_s']:.1f}/{wait['get_s']:.1f}" for name, wait in timing["waits"].items()
    )
    head = (
        f"  ours {row.program}: {row.run['backend']}, batch {row.run['batch_size']}, start-up "
        f"{timing['startup_s']:.2f} s; ms an image: {stages}"
    )
    return [
        head,
        f"  s waited to put/get: {waits or 'no threads'}",
    ]


def benchmark(args: argparse.Namespace, recording: Path, folder: Path) -> list[dict[str, Any]]:
    """All runs over one recording, printed and returned."""
    looped = loop_recording(recording, folder / recording.stem, args.images)
    models = make_models(args, looped, folder)
    found = []
    settings = [f"detect.batch_size={args.batch_size}", *args.set]
    for video in {"both": (False, True), "yes": (True,), "no": (False,)}[args.video]:
        print(
            f"\n{recording.name}: {looped.images} images of {looped.cameras} cameras at "
            f"{1e9 / looped.period_ns:.3g} Hz, {'with' if video else 'without'} video, {args.runs} turns",
            flush=True,
        )
        rows: list[Measured] = []
        for turn in range(args.runs):
            for program in args.rows:
                if program in LOOPS:
                    row = measure_loop(looped, models, program, turn, video=video)
                else:
                    row = measure_ours(looped, models, program, turn, video=video, settings=settings)
                if rows and row.images != rows[0].images:
                    print(
                        f"warning: {program} processed {row.images} images, {rows[0].program} {rows[0].images}"
                    )
                rows.append(row)
        print("\n".join(table(rows)))
        costs: dict[str, StageCosts] = {}
        for row in rows[-len(args.rows) :]:
            if row.program in OURS:
                print("\n".join(where_time_goes(row)))
                if args.stages:
                    costs[row.program] = stages_alone(looped, models, row, video=video, settings=settings)
                    print("\n".join(share_of_bound(costs[row.program], rows, row.program)), flush=True)
        found.append(_as_json(recording.name, looped, video, rows, costs))
    return found


def _as_json(
    recording: str, looped: Looped, video: bool, rows: Sequence[Measured], costs: Mapping[str, StageCosts]
) -> dict[str, Any]:
    programs = dict.fromkeys(row.program for row in rows)
    compared = {
        f"{program} / {to}": ratios(rows, program, to)
        for program in programs
        for to in YARDSTICKS
        if to in programs
    }
    return {
        "recording": recording,
        "cameras": looped.cameras,
        "images": looped.images,
        "video": video,
        "ratios": {
            name: {"median": statistics.median(values), "least": min(values), "most": max(values)}
            for name, values in compared.items()
        },
        "stages": {
            program: {
                "core_ms": alone.core_ms,
                "bound_per_s": alone.bound_per_s,
                "share_of_bound": [
                    alone.share(row.steady_images_per_s) for row in rows if row.program == program
                ],
            }
            for program, alone in costs.items()
        },
        "runs": [
            {
                **asdict(row),
                "images_per_s": row.images_per_s,
                "steady_images_per_s": row.steady_images_per_s,
            }
            for row in rows
        ],
    }


def make_models(args: argparse.Namespace, looped: Looped, folder: Path) -> Models:
    """What the rows load, exported before anything is measured."""
    folder = folder / "exports"
    folder.mkdir()
    ours = [sys.executable, str(_TIMED_RUN), str(folder / "steady.json")]
    informed, int8 = args.informed or "", args.int8 or ""
    if not informed and any(name.startswith("informed") for name in args.rows):
        loop = [sys.executable, "-m", "perception_batch.plain_loop"]
        informed = measure([*loop, "--export", args.model, str(folder / "informed")], folder).last_line
    if not int8 and any(name.startswith("int8") for name in args.rows):
        int8 = str(folder / "int8")
        words = ["export", args.model, "--backend", "openvino", "--precision", "int8", "--out", int8]
        measure([*ours, *words, "--calibrate", str(looped.path)], folder)
    models = Models(args.model, informed, int8)
    for name in args.rows:  # exported and compiled into the cache, unless it is there
        if name in OURS:
            words = ["run", str(looped.path), "--out", str(folder / f"first-{name}"), "--no-video"]
            words += ["--model", model_of(name, models), "--set", settings_of(name)[0]]
            measure([*ours, *words, *(f"--set={s}" for s in args.set), "--stop", "0.01"], folder)
    return models


def machine() -> dict[str, Any]:
    """What the figures depend on, without names of hosts or folders."""
    names = (
        "numpy",
        "opencv-python",
        "torch",
        "ultralytics",
        "openvino",
        "rosbags",
        "av",
        "perception_batch",
    )
    return {
        "cores": usable_cores(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    words = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log", nargs="+", type=Path, metavar="LOG", help="recording with CompressedImages")
    parser.add_argument("--model", required=True, metavar="WEIGHTS")
    parser.add_argument("--images", type=int, default=300, help="length of the looped log (300)")
    parser.add_argument("--runs", type=int, default=5, help="turns (5)")
    parser.add_argument("--rows", type=_programs, default=USUAL, metavar="A,B", help=f"({','.join(USUAL)})")
    parser.add_argument("--int8", metavar="FOLDER", help="our INT8 export, where it is there already")
    parser.add_argument("--informed", metavar="FOLDER", help="Ultralytics' OpenVINO export, likewise")
    parser.add_argument("--batch-size", default="auto", metavar="N", help="of ours (auto)")
    parser.add_argument("--video", choices=["both", "yes", "no"], default="both")
    parser.add_argument("--no-video", dest="video", action="store_const", const="no", help="--video no")
    parser.add_argument(
        "--set", action="append", default=[], metavar="section.key=value", help="setting of ours"
    )
    parser.add_argument("--no-stages", dest="stages", action="store_false", help="leave out the stages alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="every run, for programs")
    args = parser.parse_args(words)
    if args.images < 1 or args.runs < 1:
        parser.error("--images and --runs are at least 1")
    host = machine()
    print(", ".join(f"{name} {value}" for name, value in host.items()))
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for i, recording in enumerate(args.log):
            try:
                found += benchmark(args, recording, Path(name) / str(i))
            except (ValueError, RuntimeError) as error:
                print(f"benchmark_against_plain_loop: error: {error}", file=sys.stderr)
                return 1
    if args.json is not None:
        args.json.write_text(
            json.dumps({"machine": host, "model": Path(args.model).name, "results": found}, indent=1) + "\n"
        )
    return 0


def _programs(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in LOOPS + OURS:
            raise argparse.ArgumentTypeError(f"{name} is not one of {', '.join(LOOPS + OURS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
