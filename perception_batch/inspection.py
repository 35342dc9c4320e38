"""What a log holds, for people and for programs: cameras, calibration, motion, grouping, losses."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from perception_batch.config import RunConfig
from perception_batch.errors import EXIT_OK, ConfigError, LogError, WriteError, printable
from perception_batch.inspection_page import print_page
from perception_batch.inspection_sync import SyncLook, look_at_sync, sync_facts
from perception_batch.job import Job, OpenDrive, open_drive
from perception_batch.read import CameraSurvey, DriveLog, Stretch, Surveyor, open_log, write_rig
from perception_batch.sync import SyncPlan

LISTED = 5
"""Gaps and frozen stretches of a camera that are listed, the longest."""


def inspect_log(
    paths: tuple[Path, ...],
    config: RunConfig,
    cameras: tuple[str, ...] | None,
    *,
    rig_file: Path | None = None,
    sync: bool = False,
    full: bool = False,
    as_json: bool = False,
    write_rig_to: Path | None = None,
    suggest_config_to: Path | None = None,
    plot_to: Path | None = None,
) -> int:
    """The command `inspect`.

    Returns:
        0 for every readable log.

    Raises:
        PerceptionBatchError: nothing readable, or an option that does not fit.
    """
    for target in (write_rig_to, suggest_config_to, plot_to):
        if target is not None and target.exists():
            raise WriteError(f"{printable(target)} exists; choose another name")
    if plot_to is not None:
        from perception_batch.inspection_plot import check_plot_name

        check_plot_name(plot_to)
    if len(paths) == 1 and (paths[0] / "run.json").is_file():
        from perception_batch.inspection_run import inspect_run

        if write_rig_to is not None or plot_to is not None:
            raise ConfigError("--write-rig and --plot need the log, and this is a run; give the log")
        return inspect_run(paths[0], as_json=as_json, suggest_config_to=suggest_config_to)
    job = Job("inspect", paths, Path(), config, cameras, rig_file=rig_file)
    give = _give_json if as_json else print_page
    facts = _facts_without_cameras(paths, config)
    if facts is not None:  # readable, so no error; but there is nothing to run on
        give(facts)
        return EXIT_OK
    with open_drive(job) as opened:
        facts, look = look_at(opened, everything=sync or full or plot_to is not None)
        if write_rig_to is not None:
            if not opened.rig.cameras:
                raise ConfigError(f"{printable(paths[0])} has no calibrated camera: there is no rig to write")
            write_rig(opened.rig, write_rig_to)
        if suggest_config_to is not None:
            plan = None if look is None else look.plan
            suggest_config_to.write_text(suggested_config(opened, plan), encoding="utf-8")
        if plot_to is not None and look is not None:
            from perception_batch.inspection_plot import plot_sync

            plot_sync(look, plot_to, title=", ".join(path.name for path in paths))
        give(facts)
    return EXIT_OK


def facts_of(
    paths: tuple[Path, ...],
    config: RunConfig,
    cameras: tuple[str, ...] | None = None,
    *,
    rig_file: Path | None = None,
    everything: bool = False,
) -> dict[str, Any]:
    """What `inspect --json` prints; with `everything` all of the log is read, as for `--sync`.

    Raises:
        PerceptionBatchError: nothing readable, or settings that do not fit the log.
    """
    facts = _facts_without_cameras(paths, config)
    if facts is not None:
        return facts
    with open_drive(Job("inspect", paths, Path(), config, cameras, rig_file=rig_file)) as opened:
        return look_at(opened, everything=everything)[0]


def look_at(opened: OpenDrive, *, everything: bool) -> tuple[dict[str, Any], SyncLook | None]:
    """What the log tells, as plain JSON; with `everything` also what grouping all of it showed."""
    surveyors = {name: Surveyor() for name in opened.selected}
    look = look_at_sync(opened, surveyors) if everything else None
    return log_facts(opened, surveyors, look), look


def _facts_without_cameras(paths: tuple[Path, ...], config: RunConfig) -> dict[str, Any] | None:
    """The facts of a log without cameras; None where it has some."""
    with open_log(paths, config.read, cameras_needed=False) as log:
        if log.losses and not any(topic.count for topic in log.topics):
            raise LogError(paths[0], f"nothing in it can be read: {log.losses[0].reason}")
        return None if log.cameras else bare_facts(log)


def _give_json(facts: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts, indent=1, allow_nan=False) + "\n")


def bare_facts(log: DriveLog) -> dict[str, Any]:
    """What a log without cameras holds, as plain JSON."""
    return {
        "paths": [str(path) for path in log.paths],
        "start_ns": log.start_ns,
        "stop_ns": log.stop_ns,
        "duration_s": max(0, log.stop_ns - log.start_ns) / 1e9,
        "sampled": False,
        "cameras": {},
        "topics": [{"name": t.name, "type": t.type, "count": t.count} for t in log.topics],
        "losses": [asdict(loss) for loss in log.losses],
    }


def log_facts(
    opened: OpenDrive, surveyors: Mapping[str, Surveyor], look: SyncLook | None = None
) -> dict[str, Any]:
    """What the log tells, as plain JSON.

    Args:
        opened: the log.
        surveyors: by camera; fresh without `look`, else they have seen what it has.
        look: what reading all of it showed; None: the index and the head speak, and figures from the head are
            marked by ``sampled``.
    """
    head, log, rig = opened.head, opened.log, opened.rig
    if look is None:
        for frame in log.head_frames(opened.selected):
            surveyors[frame.camera].take(frame)
    steps = log.clock_steps
    facts: dict[str, Any] = {
        "paths": [str(path) for path in log.paths],
        "start_ns": log.start_ns,
        "stop_ns": log.stop_ns,
        "first_stamp_ns": head.first_stamp_ns,
        "duration_s": (log.stop_ns - log.start_ns) / 1e9,
        "sampled": not (look is not None or head.complete),
        "cameras": {
            name: _camera_facts(opened, name, surveyors[name].result() if name in surveyors else None)
            for name in log.cameras
        },
        "base_frame": rig.base_frame or None,
        "transform_frames": list(log.transform_frames),
        "ego": log.ego_report.to_dict(),
        "rig_notes": [*rig.notes, *log.calibration.notes],
        "stamp_sources": list(log.stamp_sources),
        "clock_steps": [asdict(step) for step in steps],
        "topics": [{"name": t.name, "type": t.type, "count": t.count} for t in log.topics],
    }
    if look is not None:
        facts["sync"] = sync_facts(look)
    facts["losses"] = [asdict(loss) for loss in log.losses]
    return facts


def _camera_facts(opened: OpenDrive, name: str, survey: CameraSurvey | None) -> dict[str, Any]:
    camera, head, rig = opened.log.cameras[name], opened.head, opened.rig
    entry: dict[str, Any] = {
        "topic": camera.topic,
        "type": camera.msgtype,
        "alternates": list(camera.alternates),
        "frames": camera.count,
        "selected": name in opened.selected,
    }
    if camera.why_not:
        entry["why_not"] = camera.why_not
    if name not in head.cameras or survey is None:
        return entry
    seen = head.cameras[name]
    entry |= {
        "encoding": seen.encoding,
        "width_px": seen.width_px,
        "height_px": seen.height_px,
        "frame_id": seen.frame_id,
        "clock": seen.clock,
        "skew_ms": seen.skew_ns / 1e6,
        "seen": survey.frames,
    }
    if survey.rate_hz is not None and survey.period_jitter_ns is not None:
        entry["rate_hz"] = survey.rate_hz
        entry["period_jitter_ms"] = survey.period_jitter_ns / 1e6
    entry |= {
        "gaps": survey.gaps,
        "missing_in_gaps": survey.missing_in_gaps,
        "duplicates": survey.duplicates,
        "out_of_order": survey.out_of_order,
        "bad_stamps": survey.bad_stamps,
        "unparsed": survey.unparsed,
        "frozen": survey.frozen,
        "longest_gaps": [_stretch(s, head.first_stamp_ns) for s in survey.longest_gaps[:LISTED]],
        "longest_frozen": [_stretch(s, head.first_stamp_ns) for s in survey.longest_frozen[:LISTED]],
        "sizes_px": survey.sizes_px,
        "encodings": survey.encodings,
        "bytes_mean": survey.bytes_mean,
    }
    if survey.key_interval is not None or survey.before_first_key:
        entry["key_interval"] = survey.key_interval
        entry["before_first_key"] = survey.before_first_key
    if name in rig.cameras:
        known = rig.cameras[name]
        entry["calibration"] = {
            "model": known.intrinsics.model,
            "fx_px": known.intrinsics.fx_px,
            "source": known.source,
            "position_m": known.base_SE3_camera.translation_m.tolist(),
        }
    else:
        entry["uncalibrated"] = rig.uncalibrated.get(name, "not looked at")
    return entry


def _stretch(stretch: Stretch, origin_ns: int) -> dict[str, Any]:
    return {
        "start_ns": stretch.start_ns,
        "stop_ns": stretch.stop_ns,
        "time_s": round((stretch.start_ns - origin_ns) / 1e9, 3),
        "duration_s": round((stretch.stop_ns - stretch.start_ns) / 1e9, 3),
        "count": stretch.count,
    }


def suggested_config(opened: OpenDrive, plan: SyncPlan | None = None) -> str:
    """A settings file that fits the log: cameras by name with their topics, and what grouping needs.

    Args:
        opened: the log.
        plan: of all stamps; None: that of the head.
    """
    plan = plan or opened.plan
    data: dict[str, Any] = {
        "cameras": {name: {"topic": opened.log.cameras[name].topic} for name in opened.selected},
        "sync": {"reference": plan.reference, "tolerance_ms": round(plan.tolerance_ns / 1e6, 1)},
    }
    if opened.rig.cameras:
        data["fuse"] = {"base_frame": opened.rig.base_frame}
    head = "# Suggested by `perception-batch inspect`; see configs/default.yaml for every key.\n"
    return head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
