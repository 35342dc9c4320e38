"""The page over several runs: totals a night, every drive with its verdict, how speed and losses went."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from perception_batch.report.charts import HEIGHT, WIDTH, nice_top, path, picture
from perception_batch.report.documents import document
from perception_batch.report.manifest_facts import ManifestFacts
from perception_batch.report.markup import Html, join, table, tag
from perception_batch.report.number_text import decimal, duration, percent, plural, utc, whole
from perception_batch.report.sections import section
from perception_batch.report.verdict import BAD, GOOD, LOOK, Verdict, drive_seconds, lost_frames, verdict_of

UNDATED = "undated"
_TOGETHER = {GOOD: "All fine", LOOK: "Some are worth a look", BAD: "Some are not usable as they are"}


@dataclass(frozen=True, slots=True)
class IndexedRun:
    """One run of the index."""

    manifest: ManifestFacts
    """Its ``run.json``."""
    page: Path
    """Its own page."""

    @property
    def night(self) -> str:
        """Date (UTC) of the log's start; `UNDATED` where it has none."""
        begin = utc(self.manifest.stamp("start_ns"))
        return UNDATED if begin is None else begin.strftime("%Y-%m-%d")

    @property
    def verdict(self) -> Verdict:
        """Of the run."""
        return verdict_of(self.manifest)


def index_page(runs: Sequence[IndexedRun], place: Path) -> Html:
    """The page for `runs`, with links as seen from `place`."""
    ordered = sorted(runs, key=lambda run: (run.manifest.stamp("start_ns"), run.manifest.drive))
    body = [_head(ordered), _nights(ordered), _trend(ordered), _drives(ordered, place)]
    return document(f"{len(ordered)} drives", join(body), ("index.js",))


def _head(runs: Sequence[IndexedRun]) -> Html:
    levels = [run.verdict.level for run in runs]
    seconds = sum(drive_seconds(run.manifest) for run in runs)
    frames, lost = (sum(values) for values in zip(*(_frames(run) for run in runs), strict=True))
    told = [f"{plural(levels.count(GOOD), 'drive')} fine"]
    told += [f"{whole(levels.count(LOOK))} worth a look"] if LOOK in levels else []
    told += [f"{whole(levels.count(BAD))} not usable"] if BAD in levels else []
    level = BAD if BAD in levels else LOOK if LOOK in levels else GOOD
    rest = f"{duration(seconds)} of drive, {plural(frames, 'frame')}, {whole(lost)} lost ({percent(lost, frames + lost)})."
    return tag(
        "header",
        tag("p", "Drive reports", class_="kicker"),
        tag("h1", plural(len(runs), "drive")),
        tag("p", tag("strong", _TOGETHER[level]), f" {', '.join(told)}: {rest}", class_=f"verdict {level}"),
    )


def _frames(run: IndexedRun) -> tuple[int, int]:
    return run.manifest.count("frames_in_log"), lost_frames(run.manifest)


def _nights(runs: Sequence[IndexedRun]) -> Html:
    head = [
        "night",
        "drives",
        "not fine",
        "drive time",
        "frames",
        "lost",
        "lost, %",
        "timesteps",
        "objects",
        "images/s",
    ]
    rows = []
    for night in sorted({run.night for run in runs}):
        mine = [run for run in runs if run.night == night]
        manifests = [run.manifest for run in mine]
        frames, lost = (sum(values) for values in zip(*map(_frames, mine), strict=True))
        bad = sum(run.verdict.level != GOOD for run in mine)
        wall = sum(m.number("timing", "wall_s") or 0 for m in manifests)
        done = sum(
            (m.number("timing", "wall_s") or 0) * (m.number("timing", "images_per_s") or 0) for m in manifests
        )
        rows.append(
            [
                night,
                whole(len(mine)),
                whole(bad),
                duration(sum(map(drive_seconds, manifests))),
                whole(frames),
                whole(lost),
                percent(lost, frames + lost),
                whole(sum(m.count("timesteps") for m in manifests)),
                whole(sum(m.count("objects") for m in manifests)),
                decimal(done / wall if wall else None),
            ]
        )
    note = tag("p", "A night is the date (UTC) on which the log begins.", class_="note")
    return section("Nights", table("Totals of each night", head, rows), note, id_="nights")


def _trend(runs: Sequence[IndexedRun]) -> Html:
    rates = [run.manifest.number("timing", "images_per_s") for run in runs]
    shares = [100 * lost / max(1, frames + lost) for frames, lost in map(_frames, runs)]
    charts = [
        _columns("Throughput, images/s", rates, [run.manifest.drive for run in runs], 1, "bars"),
        _columns("Lost frames, %", shares, [run.manifest.drive for run in runs], 2, "warn"),
    ]
    return section(
        "Trend",
        tag("div", *charts, class_="trend"),
        tag("p", "Drives in the order of their logs.", class_="note"),
        id_="trend",
    )


def _columns(
    name: str, values: Sequence[float | None], names: Sequence[str], digits: int, class_: str
) -> Html:
    """A column for each drive."""
    known = [v for v in values if v is not None]
    top = nice_top(max(known, default=0.0))
    step = WIDTH / max(len(values), 8)
    data = "".join(
        f"M{i * step + step * 0.1:.1f} {HEIGHT}V{HEIGHT - HEIGHT * v / top:.1f}h{step * 0.8:.1f}V{HEIGHT}Z"
        for i, v in enumerate(values)
        if v
    )
    if known and not any(known):
        label = f"{name}: none"
    elif known:
        middle = sorted(known)[len(known) // 2]
        worst = max(range(len(values)), key=lambda i: values[i] or 0.0)
        label = f"{name}: median {decimal(middle, digits)}, largest {decimal(values[worst], digits)} ({names[worst]})"
    else:
        label = f"{name}: unknown"
    caption = tag("figcaption", tag("span", label), tag("span", f"{top:g}", class_="top"))
    return tag("figure", caption, picture(label, path(data, class_)))


def _drives(runs: Sequence[IndexedRun], place: Path) -> Html:
    head = [
        "drive", "verdict", "log begins", "length", "frames", "lost, %", "timesteps", "incomplete", "spread 95 %, ms",
        "objects", "tracks", "images/s",
    ]  # fmt: skip
    rows: list[list[object]] = []
    for run in runs:
        manifest, verdict = run.manifest, run.verdict
        frames, lost = _frames(run)
        begin = utc(manifest.stamp("start_ns"))
        steps, incomplete = manifest.count("timesteps"), manifest.count("timesteps_incomplete")
        spread, rate = manifest.number("sync", "spread_ns", "p95"), manifest.number("timing", "images_per_s")
        seconds = drive_seconds(manifest)
        rows.append(
            [
                (
                    join(
                        (
                            tag("a", manifest.drive, href=_link(run.page, place)),
                            tag("span", verdict.sentence, class_="sentence"),
                        )
                    ),
                    manifest.drive,
                ),
                (
                    tag("span", verdict.word, class_=f"badge {verdict.level}"),
                    (BAD, LOOK, GOOD).index(verdict.level),
                ),
                (begin.strftime("%Y-%m-%d %H:%M") if begin else "–", manifest.stamp("start_ns")),
                (duration(seconds), f"{seconds:.3f}"),
                (whole(frames), frames),
                (percent(lost, frames + lost), f"{lost / max(1, frames + lost):.9f}"),
                (whole(steps), steps),
                (percent(incomplete, steps), f"{incomplete / max(1, steps):.9f}"),
                (decimal(None if spread is None else spread / 1e6), "" if spread is None else spread),
                (whole(manifest.count("objects")), manifest.count("objects")),
                (whole(manifest.count("tracks")), manifest.count("tracks")),
                (decimal(rate), "" if rate is None else rate),
            ]
        )
    return section(
        "Drives", table("All drives", head, rows, words=2, id_="drives", sortable=True), id_="drives-section"
    )


def _link(page: Path, place: Path) -> str:
    """A relative address; whatever the folders are called, no part of it is read as a scheme or a query."""
    steps = os.path.relpath(page.resolve(), place.resolve().parent)
    return "./" + quote(Path(steps).as_posix())
