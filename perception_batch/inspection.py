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
from rich.console import Console
from rich.table import Table
from rich.text import Text

from perception_batch.config import RunConfig
from perception_batch.errors import EXIT_OK, ConfigError, WriteError, printable
from perception_batch.job import Job, OpenDrive, open_drive
from perception_batch.read import CameraHead, DriveLog, open_log, write_rig
from perception_batch.sync import Synchronizer, synchronize
from perception_batch.types import EgoPose, EncodedFrame, FrameSet

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
    console = Console(
        highlight=False, soft_wrap=True, emoji=False, width=None if sys.stdout.isatty() else 160
    )
    with open_log(paths, config.read, cameras_needed=False) as log:
        facts = None if log.cameras else bare_facts(log)
    if facts is not None:  # readable, so no error; but there is nothing to run on
        _give(facts, console, as_json=as_json)
        return EXIT_OK
    with open_drive(job) as opened:
        facts = log_facts(opened)
        if sync or full:
            facts["sync"] = sync_facts(opened, config)
        facts["losses"] = [asdict(loss) for loss in opened.log.losses]
        if write_rig_to is not None:
            if not opened.rig.cameras:
                raise ConfigError(f"{printable(paths[0])} has no calibrated camera: there is no rig to write")
            write_rig(opened.rig, write_rig_to)
        if suggest_config_to is not None:
            suggest_config_to.write_text(suggested_config(opened), encoding="utf-8")
        _give(facts, console, as_json=as_json)
    return EXIT_OK


def _give(facts: dict[str, Any], console: Console, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(facts, indent=1, allow_nan=False) + "\n")
    else:
        _print(facts, console)


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


def log_facts(opened: OpenDrive) -> dict[str, Any]:
    """What the index and the head tell, as plain JSON; figures from the head are marked by `sampled`."""
    head, log, rig = opened.head, opened.log, opened.rig
    cameras: dict[str, Any] = {}
    for name, camera in log.cameras.items():
        entry: dict[str, Any] = {
            "topic": camera.topic,
            "type": camera.msgtype,
            "alternates": list(camera.alternates),
            "frames": camera.count,
            "selected": name in opened.selected,
        }
        if camera.why_not:
            entry["why_not"] = camera.why_not
        if name in head.cameras:
            entry.update(_head_facts(head.cameras[name]))
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
        cameras[name] = entry
    return {
        "paths": [str(path) for path in log.paths],
        "start_ns": log.start_ns,
        "stop_ns": log.stop_ns,
        "first_stamp_ns": head.first_stamp_ns,
        "duration_s": (log.stop_ns - log.start_ns) / 1e9,
        "sampled": not head.complete,
        "cameras": cameras,
        "base_frame": rig.base_frame or None,
        "ego_source": log.ego_source,
        "rig_notes": list(rig.notes),
        "topics": [{"name": t.name, "type": t.type, "count": t.count} for t in log.topics],
    }


def _head_facts(head: CameraHead) -> dict[str, Any]:
    stamps = np.unique(np.array([stamp for stamp, _ in head.stamps_ns], np.int64))
    gaps = np.diff(stamps)
    out: dict[str, Any] = {
        "encoding": head.encoding,
        "width_px": head.width_px,
        "height_px": head.height_px,
        "frame_id": head.frame_id,
        "clock": head.clock,
        "skew_ms": head.skew_ns / 1e6,
    }
    if len(gaps):
        period = float(np.median(gaps))
        out["rate_hz"] = 1e9 / period
        out["period_jitter_ms"] = 1.4826 * float(np.median(np.abs(gaps - period))) / 1e6
    return out


def sync_facts(opened: OpenDrive, config: RunConfig) -> dict[str, Any]:
    """Group all frames of the log (no image is decoded) and say how well that went."""
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


def _print(facts: dict[str, Any], console: Console) -> None:
    marked = " (sampled: figures of the first seconds, counts from the index)" if facts["sampled"] else ""
    console.print(
        f"{', '.join(map(printable, facts['paths']))}: {facts['duration_s']:.1f} s, "
        f"{len(facts['topics'])} topics{marked}",
        markup=False,
    )
    if not facts["cameras"]:
        console.print("no camera (sensor_msgs Image or CompressedImage); topics:", markup=False)
        for topic in facts["topics"]:
            console.print(
                f"  {printable(topic['name'])}: {printable(topic['type'])}, {topic['count']}", markup=False
            )
        return
    table = Table("camera", "encoding", "size", "frames", "rate", "clock", "calibration", box=None)
    for name, camera in facts["cameras"].items():
        size = f"{camera['width_px']}x{camera['height_px']}" if camera.get("width_px") else "-"
        rate = (
            f"{camera['rate_hz']:.2f} Hz ± {camera['period_jitter_ms']:.1f} ms"
            if "rate_hz" in camera
            else "-"
        )
        clock = f"{camera['clock']} ({camera['skew_ms']:+.1f} ms)" if "clock" in camera else "-"
        if "calibration" in camera:
            known = camera["calibration"]
            calibration = f"{known['model']}, f {known['fx_px']:.0f} px, {known['source']}"
        else:
            calibration = "none: " + camera.get("uncalibrated", camera.get("why_not", "not selected"))
        cells = (name, camera.get("encoding", "-"), size, str(camera["frames"]), rate, clock)
        table.add_row(*(Text(printable(cell)) for cell in (*cells, calibration)))
    console.print(table)
    for name, camera in facts["cameras"].items():
        also = ", ".join(map(printable, camera["alternates"]))
        console.print(
            f"  {printable(name)}: {printable(camera['topic'])}" + (f"; also {also}" if also else ""),
            markup=False,
        )
    console.print(
        f"base frame {printable(facts['base_frame'] or 'none')}; ego motion from {printable(facts['ego_source'] or 'none')}",
        markup=False,
    )
    for note in facts["rig_notes"]:
        console.print(f"note: {printable(note)}", markup=False)
    if "sync" in facts:
        _print_sync(facts["sync"], console)
    for loss in facts["losses"]:
        console.print(
            f"lost: {printable(loss['topic'])}: {loss['count']} ({printable(loss['reason'])})", markup=False
        )


def _print_sync(sync: dict[str, Any], console: Console) -> None:
    spread = sync["spread_ms"]
    console.print(
        f"{sync['timesteps']} timesteps, {sync['incomplete']} incomplete; reference {printable(sync['reference'])}, "
        f"tolerance {sync['tolerance_ms']:.0f} ms"
        + (f"; spread median {spread['p50']:.1f} ms, largest {spread['max']:.1f} ms" if spread else ""),
        markup=False,
    )
    table = Table("camera", "frames", "offset", "jitter", "ok", "missing", "not due", "gaps", box=None)
    for name, camera in sync["cameras"].items():
        table.add_row(
            Text(printable(name)),
            str(camera["frames"]),
            f"{camera['offset_ms']:+.1f} ms",
            f"{camera['jitter_ms']:.1f} ms",
            *(str(camera[key]) for key in ("ok", "missing", "not_due", "gaps")),
        )
    console.print(table)
    limits = list(sync["matched_within_ms"])
    table = Table("matched within", *(f"{limit} ms" for limit in limits), box=None)
    for name in sync["cameras"]:
        shares = [sync["matched_within_ms"][limit].get(name) for limit in limits]
        table.add_row(Text(printable(name)), *("-" if s is None else f"{100 * s:.0f} %" for s in shares))
    console.print(table)
    for reason, count in sync["unused"].items():
        console.print(f"unused: {count} frames, {reason}", markup=False)
    for note in sync["notes"]:
        console.print(f"note: {printable(note)}", markup=False)
