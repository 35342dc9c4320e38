"""The words of `perception-batch report`. Only argparse is imported until the command runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from perception_batch.errors import (
    EXIT_NOTHING,
    EXIT_OK,
    EXIT_PARTIAL,
    LogError,
    PerceptionBatchError,
    printable,
)

EXAMPLE = "example: perception-batch report out/drive"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument(
        "run_dir",
        nargs="+",
        type=Path,
        metavar="RUN_DIR",
        help="what a run left: OUT/<drive>; OUT is all in it",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the index of several runs (report.html in the folder above them)",
    )
    parser.add_argument(
        "--embed-video",
        action="store_true",
        help="put the video into each page instead of naming the file beside it",
    )


def run_command(arguments: argparse.Namespace) -> int:
    """Write ``report.html`` into each run's folder, and an index where there are several; the exit status.

    Raises:
        LogError: no run where one was named.
        WriteError: the index cannot be written.
    """
    from perception_batch.report.pages import find_runs, write_index, write_run_page

    pages, failed = [], 0
    directories, empty = find_runs(arguments.run_dir)
    for directory in empty:
        failed += 1
        _complain(
            LogError(directory, "no run here: run.json is missing; give the folder OUT/<drive>, or OUT")
        )
    for directory in directories:
        try:
            page = write_run_page(directory, embed_video=arguments.embed_video)
        except (PerceptionBatchError, OSError) as error:
            failed += 1
            _complain(error)
            continue
        pages.append(page)
        sys.stdout.write(f"{printable(page.page)}\n")
    if pages and (arguments.out is not None or len(pages) > 1):
        sys.stdout.write(f"{printable(write_index(pages, arguments.out))}\n")
    return EXIT_NOTHING if not pages else EXIT_PARTIAL if failed else EXIT_OK


def _complain(error: Exception) -> None:
    words = str(error)
    if isinstance(error, OSError):
        words = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    sys.stderr.write(f"perception-batch: error: {printable(' '.join(words.split()))}\n")
