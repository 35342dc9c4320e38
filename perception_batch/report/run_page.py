"""``report.html``: one run, in one file that opens from the disk and asks nobody for anything."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

from perception_batch.errors import ConfigError, printable
from perception_batch.report import playback, sections, timeline
from perception_batch.report.documents import document, script_data, script_rows
from perception_batch.report.manifest_facts import ManifestFacts
from perception_batch.report.markup import Html, join, tag
from perception_batch.report.moments import Moment, worst_moments
from perception_batch.report.number_text import duration, plural, utc
from perception_batch.report.packing import pack
from perception_batch.report.run_files import RunFiles, read_run
from perception_batch.report.series import Series, series_of
from perception_batch.report.verdict import drive_seconds, verdict_of
from perception_batch.report.video_pictures import FILE_NAME as VIDEO
from perception_batch.report.video_pictures import VideoPictures, read_video

FILE_NAME = "report.html"
SCRIPTS = ("rows.js", "player.js", "bird_eye.js", "run.js")
_MAX_EMBEDDED_BYTES = 200_000_000
"""Of a video that is put into the page: browsers give up on much larger files."""


def run_page(directory: Path, *, embed_video: bool = False) -> Html:
    """The page of the run in `directory`, finished or not.

    Args:
        directory: ``OUT/<drive>``.
        embed_video: put the video into the page instead of naming the file beside it.

    Raises:
        LogError: no run there, or one of a newer version.
        ConfigError: the video is too large to be put into a page.
        OSError: a file is there and cannot be read.
    """
    run = read_run(directory)
    series = series_of(run)
    moments = worst_moments(run, series)
    lacks = list(run.lacks)
    video = _video(directory, run, moments, lacks)
    if embed_video and video is not None and video.bytes > _MAX_EMBEDDED_BYTES:
        raise ConfigError(
            f"--embed-video: {printable(directory / VIDEO)} has {video.bytes / 1e6:.0f} MB, at most "
            f"{_MAX_EMBEDDED_BYTES / 1e6:.0f} MB fit into a page; leave the option out: the page then plays the file beside it"
        )
    seconds = series.seconds
    if video is not None and len(video.seconds) == run.steps:
        seconds = video.seconds
    parts = [_head(run.manifest, lacks)]
    if run.steps:
        parts.append(playback.player(run, video, embedded=embed_video))
        parts.append(timeline.timeline(run, series))
        parts.append(playback.worst(run, moments, video))
    elif video is not None:
        parts.append(
            tag(
                "video",
                src=VIDEO,
                controls=True,
                preload="metadata",
                class_="alone",
                aria_label="annotated video",
            )
        )
    if run.cameras:
        parts.append(sections.cameras(run))
        parts.append(sections.synchronisation(run, series))
    parts += [sections.losses(run, series), sections.profile(run), sections.settings(run)]
    scripts: tuple[str, ...] = ()
    data: list[Html] = []
    if run.steps:
        packed = pack(run, series, seconds)
        data.append(script_data("facts", _facts(run, series, packed.columns, packed.track_ids, packed.every)))
        data.append(script_rows("rows", packed.rows))
        scripts = SCRIPTS
        if embed_video and video is not None:
            data.append(script_rows("film-data", base64.b64encode((directory / VIDEO).read_bytes()).decode()))
    return document(run.manifest.drive, join(parts), scripts, data)


def _video(directory: Path, run: RunFiles, moments: list[Moment], lacks: list[str]) -> VideoPictures | None:
    try:
        video = read_video(directory / VIDEO, [moment.step for moment in moments])
    except FileNotFoundError:
        lacks.append("there is no video: the run was made without one, or it was moved")
        return None
    except ValueError as error:
        lacks.append(f"{VIDEO} cannot be shown: {error}")
        return None
    if run.steps and len(video.seconds) != run.steps:
        lacks.append(
            f"the video has {plural(len(video.seconds), 'picture')} for {plural(run.steps, 'timestep')}: it is of another state of the run"
        )
    return video


def _head(manifest: ManifestFacts, lacks: list[str]) -> Html:
    begin, cameras = utc(manifest.stamp("start_ns")), len(manifest.section("sync", "cameras"))
    facts = [
        begin.strftime("%Y-%m-%d %H:%M:%S UTC") if begin is not None else "",
        duration(drive_seconds(manifest)) if drive_seconds(manifest) else "",
        plural(cameras, "camera") if cameras else "",
        f"{manifest.section('model').get('backend', '')} {manifest.section('model').get('precision', '')}".strip(),
    ]
    verdict = verdict_of(manifest)
    notes = (
        tag(
            "ul",
            *(tag("li", _sentence(line)) for line in lacks),
            class_="lacks",
            aria_label="What this run lacks",
        )
        if lacks
        else ""
    )
    return tag(
        "header",
        tag("p", "Drive report", class_="kicker"),
        tag("h1", manifest.drive),
        tag("p", " · ".join(f for f in facts if f), class_="facts"),
        tag("p", tag("strong", verdict.word), " ", verdict.sentence, class_=f"verdict {verdict.level}"),
        notes,
    )


def _sentence(words: str) -> str:
    first = words.partition(" ")[0]
    begin = words[:1] if "." in first else words[:1].upper()  # the name of a file stays as it is
    return f"{begin}{words[1:]}{'' if words.endswith('.') else '.'}"


def _facts(
    run: RunFiles, series: Series, columns: list[dict[str, Any]], tracks: list[int], every: int
) -> dict[str, Any]:
    reach = run.manifest.number("config", "render", "bird_eye_range_m") or 50.0
    return {
        "steps": run.steps,
        "duration": series.duration_s,
        "first": float(run.time_s[0]),
        "cameras": list(run.cameras),
        "labels": [{"name": n, "color": timeline.class_color(run.manifest, n)} for n in run.labels],
        "tracks": tracks,
        "every": every,
        "range": min(max(reach, 10.0), 200.0),
        "views": _views(run.rig),
        "columns": columns,
    }


def _views(rig: Any) -> list[list[float]]:
    """Of each calibrated camera: x, y (m), bearing and half angle of view (rad)."""
    out = []
    for camera in rig.values():
        try:
            lens, pose = camera["intrinsics"], camera["base_SE3_camera"]
            x, y = (float(v) for v in pose["position_m"][:2])
            qx, qy, qz, qw = (float(v) for v in pose["quaternion_xyzw"])
            half = lens["width_px"] / lens["fx_px"] / 2
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            continue
        # The optical axis is z: the third column of the rotation. Fisheyes keep angles, the others tangents.
        bearing = math.atan2(2 * (qy * qz - qx * qw), 2 * (qx * qz + qy * qw))
        angle = half if lens.get("model") == "equidistant" else math.atan(half)
        view = [x, y, bearing, min(angle, math.pi)]
        if all(map(math.isfinite, view)):
            out.append(view)
    return out
