#!/usr/bin/env python3
"""`perception-batch` itself, noting the seconds from the start of the chain to the end of the command.

    python scripts/timed_run.py REPORT.json run LOG --out OUT ...

Nothing is changed but that the progress bar's start, which stands between loading and the first image, is timed. It stands
alone so that the process holds what the command imports and no more.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from perception_batch.start_up import import_numpy, many_imports


def main(report: Path, words: list[str]) -> int:
    """Run the command `words`."""
    with many_imports():  # the first thing that the command does
        import_numpy()
        from perception_batch import cli, console

    started: list[float] = []

    class Timed(console.RunProgress):
        def start(self, drive: str, images: int) -> None:
            started.append(time.perf_counter())
            super().start(drive, images)

    console.RunProgress = Timed  # type: ignore[misc]
    status = cli.main(words)
    if started:
        report.write_text(json.dumps(time.perf_counter() - started[0]))
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
