#!/usr/bin/env python3
"""Training data from logs: runs what has not been run, then makes the training set.

    python scripts/generate_training_data.py LOG_OR_RUN... --out DIR --model yolo11n.pt [--runs DIR] [--format yolo] ...

Everything that is no finished run is a log, or a folder of drives: `perception-batch run` processes it into --runs (default:
DIR_runs beside the set), and skips what is there already. All other options are those of `perception-batch labels`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from perception_batch.cli import main
from perception_batch.errors import EXIT_PARTIAL


def run(words: list[str]) -> int:
    """Run, then label; the exit status of what failed first."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        epilog="example: generate_training_data.py drives/ --out set --model yolo11n.pt --every-s 0.5",
    )
    parser.add_argument("log_or_run", nargs="+", metavar="LOG_OR_RUN")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the training set")
    parser.add_argument("--runs", type=Path, metavar="DIR", help="where runs go (DIR_runs beside --out)")
    parser.add_argument("--model", metavar="WEIGHTS", help="as for `run`")
    parser.add_argument("--device", metavar="D", help="as for `run`")
    parser.add_argument("--config", metavar="FILE", help="as for `run`")
    parser.add_argument(
        "--set", action="append", default=[], metavar="section.key=value", help="as for `run`"
    )
    options, label_words = parser.parse_known_args(words)
    runs = options.runs or options.out.with_name(options.out.name + "_runs")
    done = [name for name in options.log_or_run if _is_run(Path(name))]
    logs = [name for name in options.log_or_run if name not in done]
    if logs:
        given = [("--model", options.model), ("--device", options.device), ("--config", options.config)]
        extra = [word for name, value in given if value is not None for word in (name, value)]
        extra += [word for value in options.set for word in ("--set", value)]
        status = main(["run", *logs, "--out", str(runs), "--no-video", *extra])
        if status not in (0, EXIT_PARTIAL):
            return status
        done.append(str(runs))
    return main(["labels", *done, "--out", str(options.out), *label_words])


def _is_run(path: Path) -> bool:
    return (path / "run.json").is_file() or (path.is_dir() and any(path.glob("*/run.json")))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
