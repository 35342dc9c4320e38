"""`inspect` for people: what a log holds, on one page. Names from the log are printed as text, never as markup."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from perception_batch.errors import printable
from perception_batch.inspection_sync_page import write_sync

WIDTH_OF_A_FILE = 170


def print_page(facts: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what `inspection.log_facts` or `bare_facts` gathered."""
    if console is None:
        width = None if sys.stdout.isatty() else WIDTH_OF_A_FILE
        console = Console(highlight=False, soft_wrap=True, emoji=False, width=width)
    page = _Page(console)
    page.head(facts)
    if not facts["cameras"]:
        page.line("no camera topic; topics:")
        for topic in facts["topics"]:
            page.line(f"  {topic['name']}: {topic['type']}, {topic['count']}")
    else:
        page.cameras(facts)
        page.details(facts)
        page.motion(facts)
        if "sync" in facts:
            write_sync(page, facts["sync"])
    page.losses(facts)


class _Page:
    """Prints the parts, from top to bottom."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def line(self, text: str) -> None:
        self._console.print(printable(text), markup=False)

    def table(self, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
        table = Table(*columns, box=None, pad_edge=False)
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        self._console.print(table)

    def head(self, facts: Mapping[str, Any]) -> None:
        marked = ""
        if facts["sampled"]:
            marked = (
                " (sampled: counts from the index, other figures from the first seconds; --full reads all)"
            )
        paths = ", ".join(facts["paths"])
        self.line(f"{paths}: {facts['duration_s']:.1f} s, {len(facts['topics'])} topics{marked}")

    def cameras(self, facts: Mapping[str, Any]) -> None:
        columns = ("camera", "encoding", "size", "frames", "rate", "gaps", "twice", "frozen", "clock")
        rows = []
        for name, camera in facts["cameras"].items():
            size = f"{camera['width_px']}x{camera['height_px']}" if camera.get("width_px") else "-"
            rate = "-"
            if "rate_hz" in camera:
                rate = f"{camera['rate_hz']:.2f} Hz ± {camera['period_jitter_ms']:.1f} ms"
            clock = f"{camera['clock']} ({camera['skew_ms']:+.1f} ms)" if "clock" in camera else "-"
            counts = [str(camera.get(key, "-")) for key in ("gaps", "duplicates", "frozen")]
            known = camera.get("calibration")
            if known is not None:
                calibration = f"{known['model']}, f {known['fx_px']:.0f} px, {known['source']}"
            else:
                calibration = "none: " + camera.get("uncalibrated", camera.get("why_not", "not selected"))
            encoding = camera.get("encoding", "-")
            if camera.get("key_interval"):
                encoding += f", key every {camera['key_interval']:.0f}"
            rows.append((name, encoding, size, str(camera["frames"]), rate, *counts, clock, calibration))
        self.table((*columns, "calibration"), rows)

    def details(self, facts: Mapping[str, Any]) -> None:
        for name, camera in facts["cameras"].items():
            also = f"; also {', '.join(camera['alternates'])}" if camera["alternates"] else ""
            self.line(f"  {name}: {camera['topic']}, {camera['type']}{also}")
            said = [
                (camera.get("bad_stamps"), "with a stamp that cannot be"),
                (camera.get("out_of_order"), "out of order"),
                (camera.get("unparsed"), "that hold no image"),
                (camera.get("before_first_key"), "before the first key frame"),
            ]
            found = [f"{count} {what}" for count, what in said if count]
            if found:
                self.line(f"    frames: {', '.join(found)}")
            if len(camera.get("sizes_px", {})) > 1:
                sizes = ", ".join(f"{size} ({count})" for size, count in camera["sizes_px"].items())
                self.line(f"    sizes: {sizes}")
            for key, what in (("longest_gaps", "gap"), ("longest_frozen", "frozen")):
                if what == "gap" and "sync" in facts:  # listed with the grouping
                    continue
                for stretch in camera.get(key, ()):
                    frames = (
                        f"about {stretch['count']} missing" if what == "gap" else f"{stretch['count']} equal"
                    )
                    self.line(
                        f"    {what} at {stretch['time_s']:.2f} s for {stretch['duration_s']:.2f} s ({frames})"
                    )

    def motion(self, facts: Mapping[str, Any]) -> None:
        frames = facts["transform_frames"]
        listed = ", ".join(frames[:12]) + (f" and {len(frames) - 12} more" if len(frames) > 12 else "")
        self.line(f"base frame {facts['base_frame'] or 'none'}; transforms between {listed or 'no frames'}")
        ego = facts["ego"]
        if ego["source"]:
            rate = f" at {ego['rate_hz']:.1f} Hz" if ego["rate_hz"] else ""
            said = [
                (ego["jumps"], "jumps"),
                (ego["dropped"], "late or twice"),
                (ego["bad"], "that cannot be"),
            ]
            found = "".join(f", {count} {what}" for count, what in said if count)
            self.line(
                f"ego motion from {ego['source']} ({ego['kind']}; {ego['why']}): {ego['poses']} poses{rate}{found}"
            )
        else:
            self.line(f"no ego motion: {ego['why'] or 'the log has none'}")
        for note in (*facts["stamp_sources"], *facts["rig_notes"], *ego["notes"]):
            self.line(f"note: {note}")
        for step in facts["clock_steps"]:
            at_s = (step["log_ns"] - facts["start_ns"]) / 1e9
            self.line(
                f"note: the clock of {step['camera']} stepped by {step['step_ns'] / 1e9:+.3f} s, {at_s:.1f} s into "
                "the log; its stamps are taken to go on without the step"
            )

    def losses(self, facts: Mapping[str, Any]) -> None:
        origin_ns = facts["start_ns"]
        for loss in facts["losses"]:
            when = ""
            if loss["stop_ns"]:
                since, until = (loss[key] - origin_ns for key in ("start_ns", "stop_ns"))
                when = f" from {since / 1e9:.2f} s to {until / 1e9:.2f} s"
            count = f"{loss['count']} messages" if loss["count"] else "unknown number of messages"
            self.line(f"lost: {loss['topic']}: {count}{when} ({loss['reason']})")
