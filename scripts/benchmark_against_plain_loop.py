#!/usr/bin/env python3
"""Images a second and memory of `perception-batch run` beside those of a plain loop (`plain_loop.py`).

    python scripts/benchmark_against_plain_loop.py LOG [LOG ...] --model yolo11n.pt [--images 300] [--runs 3]
        [--batch-size N [N ...]] [--video both|yes|no] [--json FILE]

Each recording is looped to a log of that many images in a temporary folder. Then the plain loop and this package (once
for each batch size) take turns, each in a process of its own, and each is compared with the plain loop of its
own turn, so that a machine that is slow for a while is slow for both.

    images/s   all images / the process' time from its start to its exit: imports, loading the model, the work, closing files
    steady     plain: without imports, loading and the first timestep with its warm-up;
               ours: without imports, opening the log and loading, but with the first batch and its warm-up
    CPU ms     CPU time of the process an image, all cores and start-up together: hardly depends on what else runs
    peak MB    the most memory (RSS) that the process held, 10^6 bytes; neither program has others working for it
    others     cores that other processes kept busy meanwhile (where /proc tells); far from 0 the figures mean little
    ratio      ours / plain of the same turn, by images/s

Shown is the median over the turns, and in brackets the least and the most.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from loop_recording import Looped, loop_recording

# Ultralytics asks name servers at import and writes its settings into the home folder; neither is to be measured.
QUIET = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
# How late the end of a process may be seen, and how old its last known peak of memory may be.
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Process:
    """What a command used, and what it said."""

    wall_s: float
    """From its start to its exit."""
    cpu_s: float
    """User and system time."""
    peak_mb: float
    """Largest resident memory, 10^6 bytes."""
    other_cores: float
    """Cores that other processes kept busy meanwhile; NaN where the system does not tell."""
    last_line: str
    """Of its standard output."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One process."""

    program: str
    """``plain`` or ``ours``."""
    batch_size: str
    """As asked for; empty for the plain loop."""
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
    timing: dict[str, Any]
    """Ours: `timing` of ``run.json``."""

    @classmethod
    def of(
        cls,
        used: Process,
        program: str,
        batch_size: str,
        turn: int,
        images: int,
        steady_images: int,
        steady_s: float,
        timing: dict[str, Any],
    ) -> Measured:
        """What a process used, and what it says of itself."""
        return cls(
            program,
            batch_size,
            turn,
            images,
            used.wall_s,
            steady_images,
            steady_s,
            used.cpu_s,
            used.peak_mb,
            used.other_cores,
            timing,
        )

    @property
    def images_per_s(self) -> float:
        """With start-up."""
        return self.images / self.wall_s

    @property
    def steady_images_per_s(self) -> float:
        """Without start-up; 0 where the log is too short to tell."""
        return self.steady_images / self.steady_s if self.steady_images and self.steady_s > 0 else 0.0


def measure(command: Sequence[str], folder: Path) -> Process:
    """Run a command and wait for it; `folder` takes its output.

    Raises:
        RuntimeError: it failed.
    """
    env = {**os.environ, **QUIET, "YOLO_CONFIG_DIR": str(folder)}
    with (folder / "stdout").open("w+b") as out, (folder / "stderr").open("w+b") as err:
        start, busy_s = time.perf_counter(), machine_busy_s()
        process = subprocess.Popen(command, stdout=out, stderr=err, env=env)
        try:
            peak_bytes = 0
            while True:
                peak_bytes = peak_memory_bytes(process.pid) or peak_bytes
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                time.sleep(POLL_S)
        except BaseException:
            process.kill()
            process.wait()
            raise
        wall_s, busy_s = time.perf_counter() - start, machine_busy_s() - busy_s
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        lines, complaint = out.read().decode().splitlines(), err.read().decode()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {complaint[-2000:]}")
    # Second choice, because `ru_maxrss` is never less than what the parent held at the start: getrusage(2).
    unit = 1 if sys.platform == "darwin" else 1024
    peak_mb = (peak_bytes or usage.ru_maxrss * unit) / 1e6
    cpu_s = usage.ru_utime + usage.ru_stime
    others = max(busy_s - cpu_s, 0.0) / wall_s
    return Process(wall_s, cpu_s, peak_mb, others, lines[-1] if lines else "")


def peak_memory_bytes(pid: int) -> int:
    """The most resident memory that a process has held so far; 0 where /proc does not tell."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024  # proc(5)
    except (OSError, ValueError):
        pass
    return 0


def machine_busy_s() -> float:
    """Seconds that all cores together have worked since the machine started; NaN where /proc does not tell."""
    try:
        words = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, words[1:9])  # proc(5)
    except (OSError, ValueError):
        return math.nan
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def measure_plain(looped: Looped, model: str, turn: int, *, video: bool) -> Measured:
    """One run of the plain loop."""
    with tempfile.TemporaryDirectory() as name:
        script = Path(__file__).with_name("plain_loop.py")
        command = [sys.executable, str(script), str(looped.path), "--model", model, "--out", name]
        command += ["--rate-hz", str(1e9 / looped.period_ns)]
        command += [] if video else ["--no-video"]
        used = measure(command, Path(name))
    said = json.loads(used.last_line)
    return Measured.of(used, "plain", "", turn, said["images"], said["steady_images"], said["steady_s"], {})


def measure_ours(
    looped: Looped, model: str, turn: int, *, video: bool, batch_size: str, settings: Sequence[str]
) -> Measured:
    """One run of `perception-batch run`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, __file__, "--as-command", str(folder / "steady.json")]
        command += ["run", str(looped.path), "--out", str(folder / "out"), "--model", model]
        for setting in (f"detect.batch_size={batch_size}", *settings):
            command += ["--set", setting]
        command += [] if video else ["--no-video"]
        used = measure(command, folder)
        manifest = json.loads(next((folder / "out").glob("*/run.json")).read_text())
        steady_s = json.loads((folder / "steady.json").read_text())
    images = manifest["counts"]["frames_used"]
    return Measured.of(used, "ours", batch_size, turn, images, images, steady_s, manifest["timing"])


def as_command(report: Path, argv: list[str]) -> int:
    """`perception-batch` itself, noting the seconds from the start of the chain to the end of the command.

    Nothing is changed but that the progress bar's start, which stands between loading and the first image, is timed.
    """
    from perception_batch import cli, console

    started: list[float] = []

    class Timed(console.RunProgress):
        def start(self, drive: str, images: int) -> None:
            started.append(time.perf_counter())
            super().start(drive, images)

    console.RunProgress = Timed  # type: ignore[misc]
    status = cli.main(argv)
    if started:
        report.write_text(json.dumps(time.perf_counter() - started[0]))
    return status


def table(rows: Sequence[Measured]) -> list[str]:
    """A line for each program and batch size, under a header."""
    plain = {row.turn: row for row in rows if row.program == "plain"}
    out = [
        f"{'':<10} {'images/s':>18} {'steady':>18} {'CPU ms':>16} {'peak MB':>8} {'others':>6}  {'ratio':<18} {'steady ratio':<18}"
    ]
    for key in dict.fromkeys((row.program, row.batch_size) for row in rows):
        own = [row for row in rows if (row.program, row.batch_size) == key]
        line = f"{key[0] if not key[1] else f'ours {key[1]}':<10} "
        line += f"{spread([row.images_per_s for row in own]):>18} "
        line += f"{spread([row.steady_images_per_s for row in own]):>18} "
        line += f"{spread([1e3 * row.cpu_s / row.images for row in own], 0):>16} "
        line += f"{max(row.peak_mb for row in own):>8.0f} "
        line += f"{statistics.median(row.other_cores for row in own):>6.2f}"
        if key[0] == "ours":
            line += f"  {spread([row.images_per_s / plain[row.turn].images_per_s for row in own], 2):<18}"
            steady = [
                row.steady_images_per_s / plain[row.turn].steady_images_per_s
                for row in own
                if plain[row.turn].steady_images_per_s
            ]
            line += f" {spread(steady, 2) if steady else '-':<18}"
        out.append(line.rstrip())
    return out


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median, and in brackets the least and the most."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def where_time_goes(row: Measured) -> list[str]:
    """Milliseconds an image of work in each stage, and seconds waited at the seams, of one run of ours."""
    stages = ", ".join(
        f"{name} {1e3 * stage['busy_s'] / row.images:.1f}" for name, stage in row.timing["stages"].items()
    )
    waits = ", ".join(
        f"{name} {wait['put_s']:.1f}/{wait['get_s']:.1f}" for name, wait in row.timing["waits"].items()
    )
    return [
        f"  ours {row.batch_size}: ms an image: {stages}",
        f"  s waited to put/get: {waits or 'no threads'}",
    ]


def benchmark(args: argparse.Namespace, recording: Path, folder: Path) -> list[dict[str, Any]]:
    """All runs over one recording, printed and returned."""
    looped = loop_recording(recording, folder / recording.stem, args.images)
    found = []
    for video in {"both": (False, True), "yes": (True,), "no": (False,)}[args.video]:
        print(
            f"\n{recording.name}: {looped.images} images of {looped.cameras} cameras at "
            f"{1e9 / looped.period_ns:.3g} Hz, {'with' if video else 'without'} video, {args.runs} turns",
            flush=True,
        )
        rows: list[Measured] = []
        for turn in range(args.runs):
            row = measure_plain(looped, args.model, turn, video=video)
            rows.append(row)
            for batch_size in args.batch_size:
                row = measure_ours(
                    looped, args.model, turn, video=video, batch_size=batch_size, settings=args.set
                )
                if row.images != rows[-1].images:
                    print(f"warning: ours processed {row.images} images, plain {rows[-1].images}")
                rows.append(row)
        print("\n".join(table(rows)))
        for row in rows[-len(args.batch_size) :]:
            print("\n".join(where_time_goes(row)))
        found.append(
            {
                "recording": recording.name,
                "cameras": looped.cameras,
                "images": looped.images,
                "video": video,
                "runs": [
                    {
                        **asdict(row),
                        "images_per_s": row.images_per_s,
                        "steady_images_per_s": row.steady_images_per_s,
                    }
                    for row in rows
                ],
            }
        )
    return found


def machine() -> dict[str, Any]:
    """What the figures depend on, without names of hosts or folders."""
    names = ("numpy", "opencv-python", "torch", "ultralytics", "rosbags", "av", "perception_batch")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cores": cores,
        "load_at_start": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["--as-command"]:
        return as_command(Path(words[1]), words[2:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log", nargs="+", type=Path, metavar="LOG", help="recording with CompressedImages")
    parser.add_argument("--model", required=True, metavar="WEIGHTS")
    parser.add_argument("--images", type=int, default=300, help="length of the looped log (300)")
    parser.add_argument("--runs", type=int, default=3, help="turns (3)")
    parser.add_argument("--batch-size", nargs="+", default=["auto"], metavar="N", help="of ours (auto)")
    parser.add_argument("--video", choices=["both", "yes", "no"], default="both")
    parser.add_argument("--no-video", dest="video", action="store_const", const="no", help="--video no")
    parser.add_argument(
        "--set", action="append", default=[], metavar="section.key=value", help="setting of ours"
    )
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


if __name__ == "__main__":
    sys.exit(main())
