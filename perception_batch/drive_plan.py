"""A drive's plan, frozen: how it is cut into segments and grouped, for this process and any other that works on it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from perception_batch.config import RunConfig
from perception_batch.job import Job, OpenDrive
from perception_batch.runs import Identity, SegmentPlan, cut, read_plan, stage_hashes, thawed
from perception_batch.sync import SyncPlan

_POSE_DELAY_NS = 200_000_000
"""How late a pose may be recorded."""


def freeze_plan(opened: OpenDrive, config: RunConfig, wanted: Identity) -> SegmentPlan:
    """Cut an open drive into segments.

    Args:
        opened: the drive.
        config: its settings.
        wanted: what decides its detections (`job.identity`).
    """
    sync, head, log = opened.plan, opened.head, opened.log
    return cut(
        log_fingerprint=wanted.fingerprint,
        detect_hash=stage_hashes(wanted.config, wanted.selection).detect,
        origin_ns=head.first_stamp_ns,
        length_s=config.runs.segment_s,
        last_ns=max(head.first_stamp_ns, log.stop_ns),
        span_ns=opened.span_ns,
        ranges_ns=opened.ranges_ns,
        lead_in_ns=sync.lead_in_ns,
        lag_ns=patience_ns(sync, config) + sync.window_ns,
        sync=asdict(sync),
    )


def frozen_plan(job: Job, opened: OpenDrive, wanted: Identity) -> SegmentPlan:
    """The plan that an earlier run of this drive has frozen, where it is of this log and these settings; else a new one.

    Args:
        job: says where the drive's folder is.
        opened: the drive.
        wanted: what decides its detections (`job.identity`).
    """
    new = freeze_plan(opened, job.config, wanted)
    old = None if job.overwrite else read_plan(job.directory)
    if old is None or (old.log_fingerprint, old.detect_hash) != (new.log_fingerprint, new.detect_hash):
        return new
    try:
        sync_plan(old)
    except ValueError:
        return new
    return old


def sync_plan(plan: SegmentPlan) -> SyncPlan:
    """The synchronisation plan that was frozen, equal to the one that went in.

    Raises:
        ValueError: it is of another version of this program.
    """
    data: dict[str, Any] = thawed(plan.sync)
    try:
        return SyncPlan(**{**data, "cameras": tuple(data["cameras"]), "notes": tuple(data["notes"])})
    except (TypeError, KeyError) as error:
        raise ValueError(f"the frozen plan is of another version: {error}") from None


def patience_ns(plan: SyncPlan, config: RunConfig) -> int:
    """Log time after a frame's stamp at which no pose for it is expected any more, ns."""
    return plan.latency_ns + round(config.read.max_pose_gap_s * 1e9) + _POSE_DELAY_NS
