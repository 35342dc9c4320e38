"""What a log holds, for people and for programs: cameras, calibration, motion, grouping, losses."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from perception_batch.config import RunConfig
from perception_batch.errors import EXIT_OK, ConfigError, LogError, WriteError, printable
from perception_batch.inspection_page import print_page
from perception_batch.job import Job, OpenDrive, open_drive
from perception_batch.read import CameraSurvey, DriveLog, Stretch, Surveyor, open_log, write_rig
from perception_batch.sync import Synchronizer, synchronize
from perception_batch.types import EgoPose, EncodedFrame, FrameSet

LISTED = 5
"""Gaps and frozen stretches of a camera that are listed, the longest."""

_TABLE_TOLERANCES_MS = (1, 2, 5, 10, 20, 30, 50, 100)


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
) -> int:
    """The command `inspect`.

    Returns:
        0 for every readable log.

    Raises:
        PerceptionBatchError: nothing readable, or an option that does not fit.
    """
    for target in (write_rig_to, suggest_config_to):
        if target is not None and target.exists():
            raise WriteError(f"{printable(target)} exists; choose another name")
    job = Job("inspect", paths, Path(), config, cameras, rig_file=rig_file)
    give = _give_json if as_json else print_page
    with open_log(paths, config.read, cameras_needed=False) as log:
        if log.losses and not any(topic.count for topic in log.topics):
            raise LogError(paths[0], f"nothing in it can be read: {log.losses[0].reason}")
        facts = None if log.cameras else bare_facts(log)
    if facts is not None:  # readable, so no error; but there is nothing to run on
        give(facts)
        return EXIT_OK
    with open_drive(job) as opened:
        facts = log_facts(opened, config, everything=sync or full)
        if write_rig_to is not None:
            if not opened.rig.cameras:
                raise ConfigError(f"{printable(paths[0])} has no calibrated camera: there is no rig to write")
            write_rig(opened.rig, write_rig_to)
        if suggest_config_to is not None:
            suggest_config_to.write_text(suggested_config(opened), encoding="utf-8")
        give(facts)
    return EXIT_OK


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


def log_facts(opened: OpenDrive, config: RunConfig, *, everything: bool) -> dict[str, Any]:
    """What the log tells, as plain JSON.

    With `everything` all of it is read and its frames are grouped; otherwise the index and the head speak, and
    figures from the head are marked by ``sampled``.
    """
    head, log, rig = opened.head, opened.log, opened.rig
    surveyors = {name: Surveyor() for name in opened.selected}
    sync: dict[str, Any] | None = None
    if everything:
        sync = sync_facts(opened, config, surveyors)
    else:
        for frame in log.head_frames(opened.selected):
            surveyors[frame.camera].take(frame)
    steps = log.clock_steps
    facts: dict[str, Any] = {
        "paths": [str(path) for path in log.paths],
        "start_ns": log.start_ns,
        "stop_ns": log.stop_ns,
        "first_stamp_ns": head.first_stamp_ns,
        "duration_s": (log.stop_ns - log.start_ns) / 1e9,
        "sampled": not (everything or head.complete),
        "cameras": {
            name: _camera_facts(opened, name, surveyors[name].result() if name in surveyors else None)
            for name in log.cameras
        },
        "base_frame": rig.base_frame or None,
        "transform_frames": list(log.transform_frames),
        "ego": log.ego_report.to_dict(),
        "rig_notes": list(rig.notes),
        "clock_steps": [asdict(step) for step in steps],
        "topics": [{"name": t.name, "type": t.type, "count": t.count} for t in log.topics],
    }
    if sync is not None:
        facts["sync"] = sync
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


def sync_facts(
    opened: OpenDrive, config: RunConfig, surveyors: Mapping[str, Surveyor] | None = None
) -> dict[str, Any]:
    """Group all frames of the log (no image is decoded) and say how well that went; `surveyors` see each."""
    plan = opened.plan
    stamps: dict[str, list[int]] = {name: [] for name in opened.selected}
    spreads: list[int] = []
    status: Counter[tuple[str, str]] = Counter()
    reasons: Counter[str] = Counter()
    found: Counter[str] = Counter()
    synchronizer = Synchronizer(plan, config.sync, *opened.span_ns)

    def frames() -> Any:
        for item in opened.log.stream(opened.selected, *opened.span_ns):
            if isinstance(item, EncodedFrame):
                found[item.camera] += 1
                if surveyors is not None:
                    surveyors[item.camera].take(item)
                if item.stamp_ok:  # one that is not would make gaps of years
                    stamps[item.camera].append(item.stamp_ns)
                yield item.without_payload()  # stamps are enough
            elif not isinstance(item, EgoPose):
                raise TypeError(f"a log gives frames and poses, got {type(item).__name__}")

    timesteps = incomplete = 0
    for frame_set in synchronize(frames(), synchronizer):
        timesteps += 1
        incomplete += "missing" in frame_set.status.values()
        status.update(frame_set.status.items())
        reasons.update(unused.reason for unused in frame_set.unused)
        if len(frame_set.frames) > 1:  # as in run.json
            spreads.append(_spread_ns(frame_set))
    reasons.update(unused.reason for unused in synchronizer.take_unused())
    return {
        "reference": plan.reference,
        "tolerance_ms": plan.tolerance_ns / 1e6,
        "timesteps": timesteps,
        "incomplete": incomplete,
        "spread_ms": _percentiles(spreads),
        "unused": dict(sorted(reasons.items())),
        "cameras": {
            name: {
                "frames": found[name],
                "offset_ms": plan.offset_ns[name] / 1e6,
                "jitter_ms": plan.jitter_ns[name] / 1e6,
                "ok": status[name, "ok"],
                "missing": status[name, "missing"],
                "not_due": status[name, "not_due"],
                "gaps": _gaps(stamps[name], plan.period_ns[name]),
            }
            for name in opened.selected
        },
        "matched_within_ms": _matched(stamps, plan.reference, plan.offset_ns),
        "notes": list(plan.notes),
    }


def _spread_ns(frame_set: FrameSet) -> int:
    stamps = [frame.stamp_ns for frame in frame_set.frames.values()]
    return max(stamps) - min(stamps)


def _percentiles(spreads_ns: list[int]) -> dict[str, float]:
    if not spreads_ns:
        return {}
    p50, p95 = np.percentile(spreads_ns, [50, 95], method="nearest")
    return {"p50": p50 / 1e6, "p95": p95 / 1e6, "max": max(spreads_ns) / 1e6}


def _gaps(stamps_ns: list[int], period_ns: int) -> int:
    """Stretches without a frame longer than one and a half periods."""
    return (
        int((np.diff(np.sort(np.array(stamps_ns, np.int64))) * 2 > 3 * period_ns).sum()) if period_ns else 0
    )


def _matched(
    stamps: Mapping[str, list[int]], reference: str, offset_ns: Mapping[str, int]
) -> dict[str, dict[str, float]]:
    """By tolerance in ms: share of each camera's frames that have a reference frame that near."""
    anchors = np.sort(np.array(stamps[reference], np.int64))
    out: dict[str, dict[str, float]] = {}
    for name, own in stamps.items():
        if not own or not len(anchors):
            continue
        times = np.array(own, np.int64) - offset_ns[name]
        i = np.clip(np.searchsorted(anchors, times), 1, max(1, len(anchors) - 1))
        near = np.abs(times - anchors[np.minimum(i, len(anchors) - 1)])
        near = np.minimum(near, np.abs(times - anchors[i - 1]))
        for limit in _TABLE_TOLERANCES_MS:
            out.setdefault(str(limit), {})[name] = round(float((near <= limit * 1_000_000).mean()), 4)
    return out


def suggested_config(opened: OpenDrive) -> str:
    """A settings file that fits the log: cameras by name with their topics, and what grouping needs."""
    plan = opened.plan
    data: dict[str, Any] = {
        "cameras": {name: {"topic": opened.log.cameras[name].topic} for name in opened.selected},
        "sync": {"reference": plan.reference, "tolerance_ms": round(plan.tolerance_ns / 1e6, 1)},
    }
    if opened.rig.cameras:
        data["fuse"] = {"base_frame": opened.rig.base_frame}
    head = "# Suggested by `perception-batch inspect`; see configs/default.yaml for every key.\n"
    return head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
