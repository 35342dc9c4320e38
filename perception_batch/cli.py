"""The command line: words to config to pipeline, no logic of its own. Nothing heavy is imported at the top."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from perception_batch import (
    __version__,
    benchmark_command,
    compare_command,
    demo_command,
    export_command,
    labels_command,
    status_command,
    verify_command,
)
from perception_batch.command_options import add_settings, comma_names
from perception_batch.errors import (
    EXIT_NOTHING,
    EXIT_USAGE,
    ConfigError,
    PerceptionBatchError,
    printable,
    without_secrets,
)
from perception_batch.evaluate import command as evaluate_words
from perception_batch.report import command as report_words
from perception_batch.signals import Stopped, handled
from perception_batch.simulate import command as simulate_words

_EXAMPLES = {
    "": "example: perception-batch run drive.bag --out out --model yolo11n.pt",
    "inspect": "example: perception-batch inspect drive.mcap --sync",
    "run": "example: perception-batch run drive.bag --out out --model yolo11n.pt --set detect.batch_size=16",
    "fuse": "example: perception-batch fuse out/drive --set detect.score=0.4",
    "render": "example: perception-batch render out/drive --set render.width_px=1280",
}

_COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "evaluate": evaluate_words.run_command,
    "simulate": simulate_words.run_command,
    "compare": compare_command.run_command,
    "verify": verify_command.run_command,
    "benchmark": benchmark_command.run_command,
    "export": export_command.run_command,
    "status": status_command.run_command,
    "report": report_words.run_command,
    "labels": labels_command.run_command,
    "demo": demo_command.run_command,
}


_IN_FOLDERS = ("fuse", "render", "labels", "report", "evaluate", "compare")


class _Parser(argparse.ArgumentParser):
    """One line per mistake, and it says where help is."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"perception-batch: error: {printable(message)}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = _Parser(
        prog="perception-batch",
        description="Batch processing of recorded drives: synchronise, detect, fuse, render.",
        epilog=_EXAMPLES[""],
    )
    parser.add_argument("--version", action="version", version=f"perception_batch {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="log what happens, to stderr")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str, example: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, epilog=example or _EXAMPLES[name])

    inspect = command("inspect", "Show what a log holds: cameras, calibration, transforms, losses.")
    inspect.add_argument("log", nargs="+", metavar="LOG", help="file, bag folder, split files, or a URL")
    inspect.add_argument(
        "--sync", action="store_true", help="read all stamps: how well cameras can be grouped, what to set"
    )
    inspect.add_argument(
        "--full", action="store_true", help="read all frames, not only the head and the index"
    )
    inspect.add_argument("--json", action="store_true", help="for programs")
    inspect.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the grouping (.png, .svg, .pdf); implies --sync"
    )
    inspect.add_argument("--write-rig", type=Path, metavar="FILE", help="write the calibration as a rig file")
    inspect.add_argument(
        "--suggest-config", type=Path, metavar="FILE", help="write a settings file that fits the log"
    )
    add_settings(inspect)
    inspect.add_argument("--rig", type=Path, metavar="FILE", help="calibration; wins over the log's")
    inspect.add_argument("--cameras", metavar="A,B", help="only these cameras")

    run = command("run", "Run the whole chain on one drive or many.")
    run.add_argument("log", nargs="+", metavar="LOG", help="file, bag folder, a folder of drives, or a URL")
    run.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="results go to DIR/<drive>/; DIR is a folder, or a URL such as s3://bucket/night",
    )
    run.add_argument(
        "--scratch",
        type=Path,
        metavar="DIR",
        help="with a URL: where to work meanwhile (default: the user's cache)",
    )
    add_settings(run)
    run.add_argument("--model", metavar="WEIGHTS", help="detect.model")
    run.add_argument("--device", metavar="auto|cpu|cuda:N[,cuda:M]", help="detect.device")
    run.add_argument("--rig", type=Path, metavar="FILE", help="calibration; wins over the log's")
    run.add_argument("--cameras", metavar="A,B", help="only these cameras")
    time_help = "seconds from the first camera stamp, ISO-8601 UTC, or integer ns"
    run.add_argument("--start", metavar="T", help=f"first time used: {time_help}")
    run.add_argument("--stop", metavar="T", help="first time not used any more")
    run.add_argument(
        "--events",
        type=Path,
        metavar="CSV",
        help="only timesteps about events: a table with the columns stamp (as --start), before_s, after_s",
    )
    run.add_argument("--no-video", action="store_true", help="no annotated.mp4")
    run.add_argument("--drive-name", default="{stem}", metavar="TEMPLATE", help='such as "{parent}_{stem}"')
    run.add_argument("--one-drive", action="store_true", help="all LOGs are one drive")
    run.add_argument(
        "--engine", choices=["local", "ray"], default="local", help="where the work is done: here, or by Ray"
    )
    run.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="drives at once, each in a process of its own; of one drive alone: threads that decode (decode.workers)",
    )
    run.add_argument(
        "--since",
        metavar="T",
        help="only drives with a file changed since: 12h, 2d, or a date such as 2026-11-22",
    )
    run.add_argument(
        "--watch", action="store_true", help="go on until stopped: take drives once they have stopped growing"
    )
    run.add_argument(
        "--on-done",
        metavar="CMD",
        help="a command after each drive; {drive}, {directory}, {status}, ... stand in it",
    )
    run.add_argument(
        "--prometheus", type=Path, metavar="FILE", help="write the collection's figures for Prometheus"
    )
    run.add_argument("--overwrite", action="store_true", help="replace what an earlier run left")
    run.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")

    fuse = command("fuse", "Fusion again from stored detections: no pixels, no GPU.")
    fuse.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    add_settings(fuse, config=False)
    fuse.add_argument("--rig", type=Path, metavar="FILE", help="another calibration")
    fuse.add_argument("--out", type=Path, metavar="DIR", help="leave RUN_DIR as it is and write here")

    render = command("render", "Draw the video again.")
    render.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    add_settings(render, config=False)
    render.add_argument(
        "--log-root", type=Path, metavar="DIR", help="where the log lies now, if it was moved"
    )

    words = "Score a finished run against truth: AP, merges, positions, tracks, synchronisation."
    evaluate_words.add_arguments(command("evaluate", words, evaluate_words.EXAMPLE))
    words = "Draw a multi-camera drive with exact truth, and write it as a real log."
    simulate_words.add_arguments(command("simulate", words, simulate_words.EXAMPLE))
    words = "What two runs of one drive found differently: boxes, tracks, classes; worst frames first."
    compare_command.add_arguments(command("compare", words, compare_command.EXAMPLE))
    words = "Whether a model gives the same boxes at every batch size, backend and precision; exit 1 if not."
    verify_command.add_arguments(command("verify", words, verify_command.EXAMPLE))
    words = "Batch size against throughput: table, JSON, CSV, plot, and the size to use."
    benchmark_command.add_arguments(command("benchmark", words, benchmark_command.EXAMPLE))
    words = "Build the fast form of a model, for OpenVINO, ONNX Runtime or TensorRT."
    export_command.add_arguments(command("export", words, export_command.EXAMPLE))
    words = "Training data from finished runs: which images, which boxes, splits that do not leak; or check a set."
    labels_command.add_arguments(command("labels", words, labels_command.EXAMPLE))
    words = "What of a collection is done, running, failed or missing."
    status_command.add_arguments(command("status", words, status_command.EXAMPLE))
    words = "One page a run that opens in any browser: video, charts, bird's-eye view, losses; an index for several."
    report_words.add_arguments(command("report", words, report_words.EXAMPLE))
    words = "See the whole chain at work: a drive that is drawn here, a detector of our own, and the score."
    demo_command.add_arguments(command("demo", words, demo_command.EXAMPLE))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is that of the contract (`docs/formats.md`)."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = build_parser().parse_args(words)
    except SystemExit as done:
        return int(done.code or 0)
    logging.basicConfig(
        level=logging.INFO if arguments.verbose else logging.WARNING,
        format="perception-batch: %(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        with handled():
            return _dispatch(arguments, words)
    except PerceptionBatchError as error:
        return _fail(error, error.exit_status)
    except BrokenPipeError:  # the reader of our output has gone: nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_NOTHING
    except ImportError as error:
        return _fail(_what_is_missing(error), EXIT_NOTHING)
    except OSError as error:
        where = f"{printable(error.filename)}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", EXIT_NOTHING)
    except Stopped as stop:
        return _fail(f"{stop}; the same command runs it again", stop.exit_status)


def _what_is_missing(error: ImportError) -> str:
    """A package that is not installed, or one whose system libraries are not (OpenCV's window code, on servers)."""
    said = str(error)
    if "cannot open shared object file" in said:
        return (
            f"a package lacks a library of the system: {said}; for OpenCV: apt install libgl1 libglib2.0-0, or "
            "pip install --force-reinstall opencv-python-headless after uninstalling opencv-python"
        )
    return f"a package is missing or broken: {said}; install again: pip install --upgrade perception_batch"


def _fail(message: object, status: int) -> int:
    print(f"perception-batch: error: {printable(' '.join(str(message).split()))}", file=sys.stderr)  # noqa: T201
    return status


def _dispatch(arguments: argparse.Namespace, words: list[str]) -> int:
    if arguments.command in _IN_FOLDERS:
        _refuse_urls(arguments)
    run_command = _COMMANDS.get(arguments.command)
    if run_command is not None:
        return run_command(arguments)
    from perception_batch.start_up import import_numpy, leave_quickly, many_imports

    leave_quickly()
    with many_imports():
        import_numpy()
        from perception_batch.config import load_config

    cameras = getattr(arguments, "cameras", None)
    names = None if cameras is None else comma_names(cameras)
    if arguments.command == "run":
        with many_imports():
            from perception_batch.collection import RunRequest, run_all
            from perception_batch.read import log_path
            from perception_batch.runs import OutputUrl, parse_hook

        url = OutputUrl.parse(arguments.out, arguments.scratch)
        out = Path(arguments.out)
        if url is not None:
            from perception_batch.drive_output import local_out

            out = local_out(url)
        elif arguments.scratch is not None:
            raise ConfigError("--scratch goes with --out URL; results in a folder are made in it")
        overrides = list(arguments.set)
        overrides += [f"detect.model={_quoted(arguments.model)}"] if arguments.model else []
        overrides += [f"detect.device={_quoted(arguments.device)}"] if arguments.device else []
        overrides += ["render.video=false"] if arguments.no_video else []
        return run_all(
            RunRequest(
                paths=tuple(map(log_path, arguments.log)),
                out=out,
                config=load_config(arguments.config, overrides),
                cameras=names,
                start=arguments.start,
                stop=arguments.stop,
                events=arguments.events,
                rig_file=arguments.rig,
                drive_name=arguments.drive_name,
                one_drive=arguments.one_drive,
                overwrite=arguments.overwrite,
                dry_run=arguments.dry_run,
                since=arguments.since,
                watch=arguments.watch,
                on_done=() if arguments.on_done is None else parse_hook(arguments.on_done),
                prometheus=arguments.prometheus,
                workers=arguments.workers,
                engine=arguments.engine,
                argv=("perception-batch", *map(without_secrets, words)),
                url=url,
            )
        )
    if arguments.command == "inspect":
        from perception_batch.inspection import inspect_log
        from perception_batch.read import log_path

        return inspect_log(
            tuple(map(log_path, arguments.log)),
            load_config(arguments.config, arguments.set),
            names,
            rig_file=arguments.rig,
            sync=arguments.sync,
            full=arguments.full,
            as_json=arguments.json,
            write_rig_to=arguments.write_rig,
            suggest_config_to=arguments.suggest_config,
            plot_to=arguments.plot,
        )
    from perception_batch import replay
    from perception_batch.console import RunProgress, print_outcome

    if arguments.command == "fuse":
        outcome = replay.fuse_again(
            arguments.run_dir, arguments.set, rig_file=arguments.rig, out=arguments.out
        )
    else:
        outcome = replay.render_again(
            arguments.run_dir, arguments.set, log_root=arguments.log_root, progress=RunProgress()
        )
    print_outcome(outcome)
    return outcome.exit_status


def _refuse_urls(arguments: argparse.Namespace) -> None:
    """Say what to do with a run at a URL, of the commands that work in folders.

    Raises:
        ConfigError: a run's folder is a URL.
    """
    from perception_batch.runs.output_url import refuse_url

    for name in ("run_dir", "run_dirs", "runs", "run_a", "run_b", "out"):
        value = getattr(arguments, name, None)
        for path in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(path, (str, Path)):
                refuse_url(path, arguments.command)


def _quoted(text: str) -> str:
    import json

    return json.dumps(text)  # a JSON string is a YAML string, whatever is in it


if __name__ == "__main__":
    sys.exit(main())
