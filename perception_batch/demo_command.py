"""The words of `perception-batch demo`, and what it does: draw, run, evaluate, report. All imports but argparse wait."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_batch.errors import EXIT_OK, WriteError, printable

if TYPE_CHECKING:
    from perception_batch.api import Run
    from perception_batch.config import RunConfig
    from perception_batch.demo.scoreboard import Scores, Speed
    from perception_batch.evaluate.report import Report

EXAMPLE = "example: perception-batch demo --open"

_PLAIN_IMAGES = 60
_PLAIN_TIMEOUT_S = 120.0
"""So many images take a few seconds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument(
        "--out", type=Path, default=Path("demo_out"), metavar="DIR", help="results go here (demo_out)"
    )
    parser.add_argument("--open", action="store_true", help="open the report in a browser at the end")
    parser.add_argument("--no-video", action="store_true", help="no annotated.mp4")
    parser.add_argument(
        "--no-plain-loop", action="store_true", help="do not time a plain loop for comparison"
    )
    parser.add_argument("--model", metavar="WEIGHTS", help="another detector than the built-in one")


def run_command(arguments: argparse.Namespace) -> int:
    """Draw the built-in drive, run it, score it, and say where to look; the exit status.

    Raises:
        ModelError: the detector is not there.
        WriteError: the folder takes no files, or no video can be encoded.
    """
    from perception_batch.demo import packaged_model, scoreboard
    from perception_batch.detect.weights import find_weights, sha256_of

    out: Path = arguments.out
    weights = find_weights(arguments.model) if arguments.model else packaged_model()
    _check_writable(out)
    _line("model", f"{printable(weights.name)}, SHA-256 {sha256_of(weights)}")
    run, report = _run_and_score(out, weights, video=not arguments.no_video)
    speed = _speed(run, weights, out, asked=not arguments.no_plain_loop, video=not arguments.no_video)
    page = _page(run.directory)
    _say("")
    _say("scoreboard, against the simulator's truth")
    for name, value in scoreboard(_scores(run, report), speed):
        _line(name, value)
    _say("where to look")
    video = run.directory / "annotated.mp4"
    for name, path in (("video", video), ("report", page), ("tables", run.directory)):
        if path is not None and path.exists():
            _line(name, printable(path))
    _say("your own log: a .bag, a rosbag2 folder, an .mcap, or a folder of videos or pictures")
    _say("  perception-batch inspect drive.bag --sync")
    _say("  perception-batch run drive.bag --out out --model yolo11n.pt")
    if arguments.open:
        _open(page or run.directory)
    return EXIT_OK


def demo_settings(weights: Path, *, video: bool = True) -> RunConfig:
    """Settings of the run: the built-in detector sees pictures at their own size, and only its good classes are used."""
    from perception_batch.config import load_config
    from perception_batch.demo import IMAGE_SIZE_PX, LABELS, MIN_SCORE

    return load_config(
        overrides=[
            f"detect.model={json.dumps(str(weights))}",
            f"detect.image_size={IMAGE_SIZE_PX}",
            f"detect.classes={json.dumps(list(LABELS))}",
            f"detect.score={MIN_SCORE}",
            f"render.video={json.dumps(video)}",
        ]
    )


def _run_and_score(out: Path, weights: Path, *, video: bool = True) -> tuple[Run, Report]:
    """The finished run of the built-in drive, and its report."""
    import time

    from perception_batch import api
    from perception_batch.console import RunProgress
    from perception_batch.demo import MIN_HEIGHT_PX, MIN_VISIBLE
    from perception_batch.demo_drive import NAME, built_in_drive
    from perception_batch.evaluate.scoring import evaluate
    from perception_batch.evaluate.settings import EvaluateSettings

    start = time.perf_counter()
    with _drawing() as progress:
        drive = built_in_drive(out, progress=progress)
    how = f"drawn in {time.perf_counter() - start:.0f} s" if drive.drawn else "drawn before"
    _line("drive", f"{printable(drive.log)}, {how}")
    start = time.perf_counter()
    settings = demo_settings(weights, video=video)
    run = api.run(drive.log, out, config=settings, drive=NAME, overwrite=True, progress=RunProgress())
    _line("run", f"{time.perf_counter() - start:.0f} s: read, synchronised, detected, fused, tracked")
    report = evaluate(
        run.directory, drive.truth, EvaluateSettings(min_height_px=MIN_HEIGHT_PX, min_visible=MIN_VISIBLE)
    )
    with suppress(OSError):  # a copy of what is printed; not worth an error
        (out / "scores.json").write_text(json.dumps(report.to_dict(), indent=1) + "\n")
    return run, report


def _scores(run: Run, report: Report) -> Scores:
    from perception_batch.demo import LABELS, Scores
    from perception_batch.evaluate.report import Skipped

    def part(figures: object, name: str) -> Any:
        return None if isinstance(figures, Skipped) else getattr(figures, name)

    counts = run.manifest.counts
    detection = report.detection
    rows = () if isinstance(detection, Skipped) else detection.classes
    by_class = {row.label: row.ap50 for row in rows if row.label in LABELS}  # what the run was asked for
    return Scores(
        timesteps=counts["timesteps"],
        incomplete=counts["timesteps_incomplete"],
        pictures=counts["frames_in_log"],
        cameras=len(run.manifest.sync["cameras"]),
        sync_exact=part(report.sync, "exact_share"),
        ap50=sum(by_class.values()) / len(by_class) if by_class else None,
        ap50_by_class=by_class,
        merge_f1=part(report.merges, "f1"),
        merge_precision=part(report.merges, "precision"),
        merge_recall=part(report.merges, "recall"),
        range_error=part(report.positions, "range_error_median"),
        position_error_m=part(report.positions, "position_error_median_m"),
        idf1=part(report.tracks, "idf1"),
        id_switches=part(report.tracks, "id_switches"),
        max_range_m=report.settings["max_range_m"],
    )


def _speed(run: Run, weights: Path, out: Path, *, asked: bool, video: bool) -> Speed:
    """Of the run, and of a plain loop (with its video where the run has one) in a process of its own: it leaves nothing behind in this one."""
    from perception_batch.demo import Speed
    from perception_batch.demo_drive import built_in_drive

    timing = run.manifest.timing
    work_s = float(timing.get("wall_s", 0)) - float(timing.get("startup_s", 0))
    own = run.manifest.counts["frames_used"] / work_s if work_s > 0 else None
    if not asked:
        return Speed(own, None, why_not="not asked for")
    if weights.suffix != ".pt":
        return Speed(own, None, why_not="it needs weights in a .pt file")
    found = _time_plain_loop(built_in_drive(out).log, weights, video=video)
    if isinstance(found, str):
        return Speed(own, None, why_not=found)
    return Speed(own, found[0], found[1])


def _time_plain_loop(log: Path, weights: Path, *, video: bool) -> tuple[float, int] | str:
    """Images a second after its first timestep, and how many; or why there is no such figure."""
    import subprocess
    import tempfile

    words = ["--model", str(weights), "--images", str(_PLAIN_IMAGES), "--rate-hz", "5"]
    words += [] if video else ["--no-video"]
    with tempfile.TemporaryDirectory(prefix="perception-batch-") as scratch:
        command = [sys.executable, "-m", "perception_batch.plain_loop", str(log), *words, "--out", scratch]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_PLAIN_TIMEOUT_S, check=False
            )
            said = json.loads(done.stdout.splitlines()[-1])
            images, steady_s = int(said["steady_images"]), float(said["steady_s"])
        except subprocess.TimeoutExpired:
            return f"it took longer than {_PLAIN_TIMEOUT_S:.0f} s"
        except (OSError, ValueError, LookupError, TypeError):
            return "it failed; is ultralytics installed?"
    return (images / steady_s, images) if steady_s > 0 and images else "the log is too short"


def _page(directory: Path) -> Path | None:
    """The run's report; None, with a line, where it cannot be written."""
    from perception_batch.errors import PerceptionBatchError
    from perception_batch.report.pages import write_run_page

    try:
        return write_run_page(directory).page
    except (PerceptionBatchError, OSError) as error:
        _line("report", f"none: {printable(' '.join(str(error).split()))}")
        return None


def _open(path: Path) -> None:
    import webbrowser

    if not webbrowser.open(path.resolve().as_uri()):
        _line("open", f"no browser was found; open {printable(path)} yourself")


def _check_writable(out: Path) -> None:
    """Before anything is drawn.

    Raises:
        WriteError: `out` takes no files.
    """
    import tempfile

    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise WriteError(
            f"{printable(out)}: cannot write here ({error.strerror}); choose another folder with --out"
        ) from None


@contextmanager
def _drawing() -> Iterator[Callable[[int, int], None] | None]:
    """A bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("drawing the drive", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _line(name: str, value: object) -> None:
    _say(f"  {name:<12} {value}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
