"""What a person sees of a run: the progress bar, and the summary at the end."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from perception_batch.errors import printable
from perception_batch.job import Outcome, Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_NO_CONTROL = dict.fromkeys((7, 8, 11, 12, 13))
"""Bell, backspace, vertical tab, form feed, carriage return: what `rich` leaves out of text."""


class RunProgress(Progress):
    """A bar on stderr; silent where stderr is no terminal."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def start(self, drive: str, images: int) -> None:
        if not sys.stderr.isatty():
            return
        self._bar = _bar()
        self._bar.start()
        self._task = self._bar.add_task(drive, total=images or None)

    def advance(self, images: int) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, images)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _bar() -> Bar:
    """`rich` costs a start 0.03 s, so it is imported where there is a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bar
    from rich.text import Text

    class Rate(ProgressColumn):
        """Images per second."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.1f} images/s")

    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


class _Lines:
    """Lines to stdout; bold ones where that is a terminal."""

    def __init__(self) -> None:
        self._console: Console | None = None
        if sys.stdout.isatty() or os.environ.get("FORCE_COLOR"):
            from rich.console import Console

            self._console = Console(highlight=False, soft_wrap=True, emoji=False)

    def print(self, line: str, style: str | None = None) -> None:
        if self._console is None:
            sys.stdout.write(line.translate(_NO_CONTROL) + "\n")
        else:
            self._console.print(line, style=style, markup=False)


def print_outcome(outcome: Outcome) -> None:
    """Print the summary of one drive to stdout."""
    console = _Lines()
    manifest, counts = outcome.manifest, outcome.manifest.counts
    if outcome.action == "skipped":
        console.print(f"{outcome.drive}: already there, nothing to do ({outcome.where})")
        return
    word = {"ran": "done", "redid": "done again from stored detections"}[outcome.action]
    console.print(f"{outcome.drive}: {manifest.status}, {word}", style="bold")
    for name, value in _lines(outcome):
        console.print(f"  {name:<12} {value}")
    if counts.get("frames_undecodable") or manifest.losses:
        for loss in manifest.losses:
            console.print(
                f"  lost: {printable(loss['topic'])}: {loss['count']} ({printable(loss['reason'])})"
            )
    for note in outcome.notes:
        console.print(f"  note: {printable(note)}")


def _lines(outcome: Outcome) -> list[tuple[str, str]]:
    from perception_batch.outputs import VIDEO_NAME

    manifest, counts = outcome.manifest, outcome.manifest.counts
    spread, timing = manifest.sync.get("spread_ns", {}), manifest.timing
    lines = [
        (
            "frames",
            (
                f"{counts['frames_in_log']} in the log = {counts['frames_used']} used + {counts['frames_unused']} "
                f"unused + {counts['frames_undecodable']} undecodable"
            ),
        ),
        ("timesteps", f"{counts['timesteps']}, {counts['timesteps_incomplete']} incomplete"),
        ("detections", f"{counts['detections']} boxes kept, {counts['objects']} objects"),
    ]
    if spread.get("p50") is not None:
        lines.append(
            (
                "sync spread",
                (
                    f"median {spread['p50'] / 1e6:.1f} ms, 95 % {spread['p95'] / 1e6:.1f} ms, largest "
                    f"{spread['max'] / 1e6:.1f} ms; reference {printable(manifest.sync['reference'])}"
                ),
            )
        )
    if outcome.action == "ran" and timing.get("images_per_s"):
        lines.append(
            (
                "speed",
                (
                    f"{timing['images_per_s']:.1f} images/s over {timing['wall_s']:.1f} s, {manifest.device}, "
                    f"{manifest.model['backend']} {manifest.model['precision']}, batch {manifest.batch_size}"
                ),
            )
        )
    if manifest.model.get("sha256"):
        lines.append(("model", f"{printable(manifest.model['path'])}, SHA-256 {manifest.model['sha256']}"))
    if outcome.action == "ran" and (waits := _waits(timing)):
        lines.append(("waiting", waits))
        if timing.get("bottleneck"):
            lines.append(("slowest", timing["bottleneck"]))
    files = list(outcome.files)
    if not outcome.place:
        files = [p.name + "/" * p.is_dir() for p in sorted(outcome.directory.iterdir())]
    lines.append(("files", f"{outcome.where}: {', '.join(files)}"))
    if VIDEO_NAME in files:
        lines.append(("video", f"{outcome.where}/{VIDEO_NAME}"))
    return lines


def _waits(timing: object) -> str:
    """Which stage waited for which, as shares of the run's time."""
    if not isinstance(timing, dict) or not timing.get("waits") or not timing.get("wall_s"):
        return ""
    wall = timing["wall_s"]
    order = list(timing["waits"])
    following = {"read": "decode", "decode": "detect", "detect": "fuse", "fuse": "write"}
    parts = []
    for name in order:
        after = following.get(name, "the next stage")
        wait = timing["waits"][name]
        parts.append(
            f"{after} {100 * wait['get_s'] / wall:.0f} % for {name}, {name} {100 * wait['put_s'] / wall:.0f} % for {after}"
        )
    return "; ".join(parts)
