"""Pages as files: one in each run's folder, and one over several."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from perception_batch.atomic import write_whole
from perception_batch.report.index_page import IndexedRun, index_page
from perception_batch.report.manifest_facts import is_run, read_manifest
from perception_batch.report.run_page import FILE_NAME, run_page


def find_runs(named: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The runs in the folders that were named, each once: the folders themselves, or what lies right in them.

    Returns:
        The folders of runs, and those that were named and hold none.
    """
    found: dict[Path, Path] = {}
    empty = []
    for directory in named:
        here = [directory]
        if not is_run(directory):
            here = sorted(path for path in directory.iterdir() if is_run(path)) if directory.is_dir() else []
        if not here:
            empty.append(directory)
        for path in here:
            found.setdefault(path.resolve(), path)
    return list(found.values()), empty


def write_run_page(directory: Path, *, embed_video: bool = False) -> IndexedRun:
    """Write ``report.html`` into the folder of a run.

    Raises:
        LogError: no run there, or one of a newer version.
        WriteError: the disk is full or refuses.
        OSError: a file of the run is there and cannot be read.
    """
    page = directory / FILE_NAME
    write_whole(page, run_page(directory, embed_video=embed_video).encode())
    return IndexedRun(read_manifest(directory), page)


def write_index(runs: Sequence[IndexedRun], out: Path | None = None) -> Path:
    """Write the index to `out`, or into the folder that all runs lie in.

    Raises:
        WriteError: the disk is full or refuses.
    """
    if out is None:
        above = os.path.commonpath([run.page.resolve().parent.parent for run in runs])
        out = Path(above) / FILE_NAME
    write_whole(out, index_page(runs, out).encode())
    return out
