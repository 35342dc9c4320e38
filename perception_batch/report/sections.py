"""The parts of a run's page below its charts: cameras, losses, profile, settings."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np

from perception_batch.report.charts import histogram
from perception_batch.report.markup import Html, join, table, tag, text
from perception_batch.report.number_text import clock, decimal, percent, plural, whole
from perception_batch.report.run_files import HAS_IMAGE, MISSING, QUALITY, RunFiles
from perception_batch.report.series import Series

_MOST_LOSSES = 500
_ORDER = ("read", "decode", "letterbox", "detect", "fuse", "draw", "encode", "write")
_AFTER = {"read": "decode", "decode": "detect", "detect": "fuse", "fuse": "write"}


def section(title: str, *content: object, id_: str) -> Html:
    """A part with a heading."""
    return tag(
        "section", tag("h2", title, id=f"{id_}-title"), *content, id=id_, aria_labelledby=f"{id_}-title"
    )


def cameras(run: RunFiles) -> Html:
    """What each camera gave."""
    manifest, rows = run.manifest, []
    decoded = Counter(zip(run.frames["camera"].tolist(), run.frames["status"].tolist(), strict=True))
    codes = {word: i for i, word in enumerate(run.frame_words["status"])}
    facts = manifest.section("sync", "cameras")
    pitches = manifest.section("calibration", "camera_pitch_deg")
    for place, name in enumerate(run.cameras):
        of = facts.get(name)
        of = of if isinstance(of, dict) else {}
        counts = {word: decoded[(place, codes.get(word, -2))] for word in ("used", "unused", "undecodable")}
        status = run.status[:, place]
        due = int((status != 2).sum())
        mine = run.frames["camera"] == place
        width, height = run.frames["width"][mine], run.frames["height"][mine]
        known = np.isfinite(width) & np.isfinite(height)
        size = f"{width[known][0]:.0f}×{height[known][0]:.0f}" if known.any() else "–"
        encoding = run.frames["encoding"][mine]
        words = run.frame_words["encoding"]
        kind = words[int(np.bincount(encoding).argmax())] if len(encoding) else "–"
        offset = run.offset_s[:, place]
        offset = offset[np.isfinite(offset)] * 1e3
        pitch = pitches.get(name)
        rows.append(
            [
                name,
                f"{size} {kind}",
                "yes" if name in run.rig else "no",
                whole(sum(counts.values())),
                whole(counts["used"]),
                whole(counts["unused"]),
                whole(counts["undecodable"]),
                percent(int((status <= HAS_IMAGE).sum()), due),
                decimal(float(np.median(offset)) if len(offset) else None, 1),
                decimal(_number(of.get("jitter_ns"), 1e-6), 1),
                whole(int(run.boxes[place])),
                decimal(_number(pitch, 1.0), 2),
            ]
        )
    head = [
        "camera", "image", "calibrated", "frames", "used", "unused", "broken", "with image", "offset, ms", "jitter, ms",
        "boxes", "pitch, °",
    ]  # fmt: skip
    note = tag(
        "p",
        "With image: share of the timesteps in which the camera was due and had one. Offset: median of the image's stamp "
        "less the timestep's. Pitch: how much lower it looks than its calibration says.",
        class_="note",
    )
    return section(
        "Cameras", table("What each camera gave", head, rows, words=3), note, *_pictures(run), id_="cameras"
    )


def _pictures(run: RunFiles) -> list[Html]:
    """How good the pictures of each camera are; nothing for a run of a version that did not look."""
    rows: list[list[object]] = []
    for place, name in enumerate(run.cameras):
        mine = run.frames["camera"] == place
        sharpness, dark, bright = (run.frames[column][mine] for column in QUALITY)
        known = np.isfinite(sharpness) & np.isfinite(dark) & np.isfinite(bright)
        if known.any():
            low, middle = np.percentile(sharpness[known], [5, 50])
            shares = (100 * float(np.median(share[known])) for share in (dark, bright))
            rows.append([name, decimal(middle, 0), decimal(low, 0), *(decimal(share, 1) for share in shares)])
    if not rows:
        return []
    head = ["camera", "sharpness", "sharpness, 5 %", "dark, %", "blown out, %"]
    note = tag(
        "p",
        "Medians over the pictures used. Sharpness: variance of the Laplacian; a fall against the same camera's other drives "
        "means blur, dirt, fog or too little light. 5 %: only a twentieth of the pictures is less sharp. Dark, blown out: share of the "
        "pixels.",
        class_="note",
    )
    return [table("How good each camera's pictures are", head, rows), note]


def synchronisation(run: RunFiles, series: Series) -> Html:
    """How far the images of a timestep lie apart."""
    known = series.spread_ms[np.isfinite(series.spread_ms)]
    if not len(known):
        return section("Synchronisation", tag("p", "No timestep has two images to compare."), id_="sync")
    marks = [
        ("median", float(np.median(known))),
        ("95 %", float(np.percentile(known, 95))),
        ("largest", known.max()),
    ]
    told = ", ".join(f"{name} {decimal(value)}\u00a0ms" for name, value in marks)
    facts = run.manifest.section("sync")
    policy = facts.get("policy")
    tolerance = _number(facts.get("tolerance_ns"), 1e-6)
    known_as = [
        ("anchor", facts.get("anchor")),
        ("reference", facts.get("reference")),
        ("policy", policy if isinstance(policy, str) else None),
        ("tolerance", None if not tolerance else f"{decimal(tolerance)}\u00a0ms"),
    ]
    how = ", ".join(f"{name} {value}" for name, value in known_as if value)
    return section(
        "Synchronisation",
        tag("p", f"Spread between the cameras of a timestep: {told}.", f" Set: {how}." if how else ""),
        histogram(series.spread_ms, marks, "ms"),
        tag("p", "Timesteps by spread, ms; lines mark the median, 95 % and the largest.", class_="note"),
        id_="sync",
    )


def losses(run: RunFiles, series: Series) -> Html:
    """What is lacking, with times."""
    rows: list[list[object]] = []
    entries = run.manifest.losses()
    first = int(run.stamps_ns[0]) if run.steps else 0
    start = run.time_s[0] if run.steps else 0.0
    for entry in entries[:_MOST_LOSSES]:
        begin, stop, count = (_whole(entry.get(key)) for key in ("start_ns", "stop_ns", "count"))
        at: object = "unknown"
        if begin and first:
            seconds = (begin - first) / 1e9
            until = f" to {clock((stop - first) / 1e9 + start)}" if stop and stop - begin > 1e8 else ""
            words = f"{clock(seconds + start)}{until}"
            step = min(int(np.searchsorted(run.stamps_ns, begin)), run.steps - 1)
            near = -1 <= seconds <= series.duration_s + 1
            at = tag("button", words, type="button", class_="jump", data_step=step) if near else words
        rows.append(
            [
                "any" if entry.get("topic") == "*" else entry.get("topic"),
                at,
                entry.get("reason"),
                whole(count) if count else "unknown",
            ]
        )
    parts: list[Html] = []
    if rows:
        parts.append(table("Losses", ["topic", "when", "why", "frames"], rows, words=3))
        if len(entries) > _MOST_LOSSES:
            parts.append(
                tag(
                    "p",
                    f"{plural(len(entries) - _MOST_LOSSES, 'more entry', 'more entries')} in run.json.",
                    class_="note",
                )
            )
    elif run.manifest.is_finished:
        parts.append(tag("p", "No frame of the log was lost or broken."))
    else:
        parts.append(tag("p", "The run did not come to the point where it tells its losses."))
    lacking = int((run.status >= MISSING).any(axis=1).sum())
    if lacking:
        parts.append(
            tag(
                "p",
                f"{whole(lacking)} of {plural(run.steps, 'timestep')} lack the image of a camera that was due.",
            )
        )
        parts.append(_stretches(run, series))
    unused = Counter(
        (int(c), int(r))
        for c, r in zip(run.frames["camera"].tolist(), run.frames["reason"].tolist(), strict=True)
        if r >= 0
    )
    if unused:
        names = (*run.cameras, "other")
        reasons = run.frame_words["reason"]
        rows = [[names[c], reasons[r].replace("_", " "), whole(n)] for (c, r), n in sorted(unused.items())]
        parts.append(
            tag(
                "details",
                tag("summary", "Frames that no timestep uses, by reason"),
                table("Frames not used", ["camera", "why", "frames"], rows, words=2),
            )
        )
    return section("Losses", *parts, id_="losses")


def _stretches(run: RunFiles, series: Series) -> Html:
    """From when to when each camera that was due had no image."""
    rows: list[tuple[int, list[object]]] = []
    for place, name in enumerate(run.cameras):
        for bad, word in ((MISSING, "missing"), (MISSING + 1, "broken")):
            is_bad = np.concatenate([[False], run.status[:, place] == bad, [False]])
            edges = np.flatnonzero(is_bad[1:] != is_bad[:-1]).reshape(-1, 2)
            for first, stop in edges.tolist():
                begin, end = (
                    run.time_s[first],
                    run.time_s[first] + series.until[stop - 1] - series.seconds[first],
                )
                at = tag(
                    "button", f"{clock(begin)} to {clock(end)}", type="button", class_="jump", data_step=first
                )
                rows.append((first, [name, at, word, whole(stop - first)]))
    rows.sort(key=lambda row: row[0])
    shown = table(
        "Gaps", ["camera", "when", "what", "timesteps"], [row for _, row in rows[:_MOST_LOSSES]], words=3
    )
    if len(rows) > _MOST_LOSSES:
        shown = join((shown, tag("p", f"The first {_MOST_LOSSES} of {whole(len(rows))}.", class_="note")))
    return tag(
        "details", tag("summary", f"{plural(len(rows), 'gap')}, by time"), shown, data_paper=len(rows) <= 40
    )


def profile(run: RunFiles) -> Html:
    """Which stage worked how long, and which waited."""
    timing = run.manifest.section("timing")
    stages, waits = run.manifest.section("timing", "stages"), run.manifest.section("timing", "waits")
    wall = run.manifest.number("timing", "wall_s")
    if not stages or not wall:
        return section("Profile", tag("p", "The run does not tell where its time went."), id_="profile")
    rate = run.manifest.number("timing", "images_per_s")
    told = f"{decimal(rate)} images/s over {decimal(wall)} s on {run.manifest.words('device') or 'an unknown device'}"
    known = timing.get("bottleneck")
    slowest = (
        f"Slowest: {known.rstrip('.')}." if isinstance(known, str) and known else _bottleneck(stages, waits)
    )
    rows: list[list[object]] = []
    names = [n for n in _ORDER if n in stages] + sorted(n for n in stages if n not in _ORDER)
    longest = max([_number(_at(stages, n, "busy_s"), 1.0) or 0 for n in names], default=0) or 1
    for name in names:
        busy, items = _number(_at(stages, name, "busy_s"), 1.0), _number(_at(stages, name, "items"), 1.0)
        bar = tag(
            "svg",
            tag("rect", width=f"{100 * (busy or 0) / longest:.1f}", height=8, class_="bars"),
            viewBox="0 0 100 8",
            preserveAspectRatio="none",
            class_="bar",
            aria_hidden="true",
        )
        each = 1e3 * busy / items if busy is not None and items else None
        wait = _number(_at(waits, name, "put_s"), 1.0)
        rows.append([name, bar, decimal(busy, 1), whole(items or 0), decimal(each, 1), decimal(wait, 1)])
    head = ["stage", "work", "busy, s", "items", "ms an item", "waited for the next, s"]
    return section(
        "Profile",
        tag("p", told, ". ", slowest),
        table("Where the time went", head, rows, words=2),
        tag(
            "p",
            "Busy adds up what several threads did at once, so it may exceed the time that passed.",
            class_="note",
        ),
        id_="profile",
    )


def _bottleneck(stages: Any, waits: Any) -> str:
    """The stage that the one before it and the one after it waited for longest."""
    waited = {
        name: sum(
            _number(_at(waits, queue, key), 1.0) or 0.0
            for queue, key in ((before, "put_s"), (name, "get_s"))
            if queue is not None
        )
        for name, before in zip(("read", "decode", "detect", "fuse", "write"), (None, *_AFTER), strict=True)
        if name in stages or name in waits
    }
    if not waited or max(waited.values()) <= 0:
        return ""
    name = max(waited, key=lambda n: waited[n])
    return f"The others waited longest for {name}."


def settings(run: RunFiles) -> Html:
    """Everything that made the run what it is, folded away."""
    manifest = run.manifest
    model = manifest.section("model")
    log = manifest.section("log")
    paths = log.get("paths")
    argv = manifest.data.get("argv")
    facts: list[tuple[str, object]] = [
        ("status", manifest.status),
        ("command", " ".join(map(str, argv)) if isinstance(argv, list) else "–"),
        ("log", ", ".join(map(str, paths)) if isinstance(paths, list) else "–"),
        ("log fingerprint", log.get("fingerprint", "–")),
        ("model", f"{model.get('path', '–')}, {model.get('backend', '–')} {model.get('precision', '–')}"),
        ("model SHA-256", model.get("sha256", "–")),
        ("batch size", manifest.data.get("batch_size") or "–"),
        ("device", manifest.words("device") or "–"),
        ("host", manifest.words("host") or "–"),
        ("started", manifest.words("created_utc") or "–"),
        ("finished", manifest.words("finished_utc") or "–"),
        ("calibration", manifest.section("calibration").get("source") or "none"),
        ("ego motion", manifest.section("ego").get("source") or "none"),
    ]
    listed = tag("dl", *(join((tag("dt", name), tag("dd", value))) for name, value in facts))
    versions = manifest.section("versions")
    parts = [
        tag("details", tag("summary", "How it was made"), listed, data_paper=True),
        tag(
            "details",
            tag("summary", "Versions"),
            table("Versions", ["package", "version"], sorted(versions.items()), words=2),
        ),
        tag("details", tag("summary", "Settings"), _json(manifest.section("config"))),
    ]
    return section("Settings and versions", *parts, id_="settings")


def _json(value: Any) -> Html:
    lines = json.dumps(value, indent=1, ensure_ascii=False).split("\n")
    return tag("pre", Html("\n".join(text(line) for line in lines)), tabindex="0")


def _at(section_: Any, name: str, key: str) -> Any:
    entry = section_.get(name) if isinstance(section_, dict) else None
    return entry.get(key) if isinstance(entry, dict) else None


def _number(value: Any, scale: float) -> float | None:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or abs(value) > 1e19
        or not math.isfinite(value)
    ):
        return None
    return value * scale


def _whole(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 1 << 63 else 0
