"""What a person sees of several drives at once: one bar for all of them, and a line for each at work."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from perception_batch.errors import printable


class CollectionProgress:
    """A display on stderr, silent where that is no terminal; a context manager."""

    def __init__(self, drives: int, console: Console | None = None) -> None:
        """Draw nothing yet.

        Args:
            drives: how many there are to do.
            console: where to draw; None: stderr.
        """
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True) if console is None else console,
            transient=True,
            disable=console is None and not sys.stderr.isatty(),
        )
        self._all = self._bar.add_task("drives", total=drives, note="")
        self._rows: dict[str, TaskID] = {}
        self._images = 0

    def __enter__(self) -> CollectionProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, drive: str, images: int = 0) -> None:
        """A drive is at work; `images` is the expected number, 0 where unknown."""
        if drive not in self._rows:
            self._rows[drive] = self._bar.add_task(printable(drive), total=None, note="")
        self._bar.update(self._rows[drive], total=images or None)

    def advance(self, drive: str, images: int) -> None:
        """So many images more of it are done."""
        self._images += images
        if drive in self._rows:
            self._bar.advance(self._rows[drive], images)
        took_s = self._bar.tasks[0].elapsed or 0.0
        if took_s > 0:
            self._bar.update(self._all, note=f"{self._images / took_s:.1f} images/s")

    def end(self, drive: str) -> None:
        """A drive is done, or failed."""
        row = self._rows.pop(drive, None)
        if row is not None:
            self._bar.remove_task(row)
        self._bar.advance(self._all)
