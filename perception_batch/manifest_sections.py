"""The parts of ``run.json`` and ``rig.json`` that the pipeline puts together from several rooms."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from perception_batch import __version__
from perception_batch.accounts import Accounts
from perception_batch.bottleneck import name_bottleneck
from perception_batch.calibration import Rig
from perception_batch.config import RunConfig
from perception_batch.detect import DetectorInfo
from perception_batch.fusion import Fuser
from perception_batch.job import OpenDrive
from perception_batch.read import DriveLog
from perception_batch.stages import Profile


def rig_with_masks(rig: Rig, config: RunConfig) -> dict[str, Any]:
    """``rig.json``: the rig, and the masks of the config."""
    out = rig.to_dict()
    for name, camera in out["cameras"].items():
        camera["mask"] = [[list(point) for point in polygon] for polygon in config.camera(name).mask]
    return out


def sync_section(opened: OpenDrive, accounts: Accounts, late_triggers: int) -> dict[str, Any]:
    """``sync`` of ``run.json``."""
    plan, head, log = opened.plan, opened.head, opened.log
    triggered = {"trigger_topic": opened.trigger_topic, "late_triggers": late_triggers}
    return {
        "anchor": plan.anchor,
        "policy": opened.settings.model_dump(mode="json")["policy"],
        "reference": plan.reference,
        "tolerance_ns": plan.tolerance_ns,
        **(triggered if opened.trigger_topic is not None else {}),
        "spread_ns": accounts.spread(),
        "clock_steps": [
            {"camera": step.camera, "log_ns": step.log_ns, "step_ns": step.step_ns}
            for step in log.clock_steps
        ],
        "cameras": {
            name: {
                "clock": head.cameras[name].clock,
                "skew_ns": head.cameras[name].skew_ns,
                "period_ns": plan.period_ns[name],
                "estimated_offset_ns": plan.offset_ns[name],
                "jitter_ns": plan.jitter_ns[name],
                "drift_ppm": round(plan.drift_ppm[name], 3),
                "drift_sd_ppm": _finite(plan.drift_sd_ppm[name]),
                "corrected_ppm": round(plan.corrected_ppm[name], 3),
                "coverage": accounts.coverage(name),
            }
            for name in plan.cameras
        },
    }


def _finite(value: float) -> float | None:
    """For JSON, which has no infinity: null where the sample is too short to tell."""
    return round(value, 3) if math.isfinite(value) else None


def calibration_section(rig: Rig, fuser: Fuser, changes: Sequence[str]) -> dict[str, Any]:
    """``calibration`` of ``run.json``; `changes` say what changed while the drive went on."""
    sources = sorted({camera.source for camera in rig.cameras.values()})
    ground = fuser.ground
    return {
        "source": ", ".join(sources) if sources else None,
        "base_frame": rig.base_frame if rig.cameras else None,
        "cameras": sorted(rig.cameras),
        "uncalibrated": dict(rig.uncalibrated),
        "ground_z_m": ground.z_m if rig.cameras else None,
        "ground_source": ground.source if rig.cameras else None,
        "slope_ahead": _known(ground.slope_ahead) if rig.cameras else None,
        "camera_pitch_deg": {
            name: round(math.degrees(pitch), 4)
            for name, pitch in zip(sorted(rig.cameras), ground.camera_pitch_rad, strict=False)
        },
        "changes": list(changes),
        "notes": [*rig.notes, *fuser.notes],
    }


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def model_section(info: DetectorInfo, input_hw: Iterable[tuple[int, int]]) -> dict[str, Any]:
    """``model`` of ``run.json``."""
    return {
        "path": str(info.path),
        "sha256": info.sha256,
        "backend": info.backend,
        "precision": info.precision,
        "input_hw": sorted(input_hw),
        "labels": info.labels,
        "stride": info.stride,
        "family": info.family,
    }


def timing_section(profile: Profile, wall_s: float, startup_s: float, images: int) -> dict[str, Any]:
    """``timing`` of ``run.json``: `startup_s` (opening, loading the model) is part of `wall_s`; no rate for 0 images."""
    stages, waits = _stages(profile), _waits(profile)
    return {
        "wall_s": round(wall_s, 3),
        "startup_s": round(startup_s, 3),
        "images_per_s": round(images / wall_s, 3) if images and wall_s > 0 else None,
        "stages": stages,
        "waits": waits,
        "bottleneck": name_bottleneck(stages, waits, wall_s - startup_s, usable_cores()) if images else "",
    }


def _stages(profile: Profile) -> dict[str, dict[str, Any]]:
    return {
        stage.name: {"busy_s": round(stage.busy_s, 3), "items": stage.items}
        for stage in profile.stages.values()
    }


def _waits(profile: Profile) -> dict[str, dict[str, Any]]:
    return {
        queue.name: {
            "put_s": round(queue.put_wait_s, 3),
            "get_s": round(queue.get_wait_s, 3),
            "peak_bytes": queue.peak_bytes,
        }
        for queue in profile.queues.values()
    }


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def losses_section(log: DriveLog, accounts: Accounts) -> list[dict[str, Any]]:
    """``losses`` of ``run.json``: what the log lacks, and the frames that are broken."""
    losses = [
        {"topic": x.topic, "start_ns": x.start_ns, "stop_ns": x.stop_ns, "count": x.count, "reason": x.reason}
        for x in log.losses
    ]
    for camera, reason, count, (first, last) in accounts.lost():
        topic = log.cameras[camera].topic
        losses.append(
            {"topic": topic, "start_ns": first, "stop_ns": last + 1, "count": count, "reason": reason}
        )
    return losses


def versions() -> dict[str, str]:
    """Of this package and of those that results depend on."""
    found = {"perception_batch": __version__, "python": platform.python_version()}
    for name in (
        "numpy",
        "opencv-python",
        "torch",
        "torchvision",
        "ultralytics",
        "openvino",
        "onnxruntime",
        "tensorrt",
        "rosbags",
        "av",
        "pyarrow",
    ):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
