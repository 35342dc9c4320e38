"""Collections made up for tests: folders with a ``run.json`` as runs leave them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perception_batch.config import RunConfig
from perception_batch.write import Manifest, write_manifest

CONFIG = RunConfig().model_dump(mode="json")


def finished(out: Path, drive: str, status: str = "complete", **log: Any) -> Path:
    """``out/drive`` with the manifest of a run."""
    folder = out / drive
    folder.mkdir(parents=True, exist_ok=True)
    done = status in ("complete", "partial")
    manifest = Manifest(
        drive,
        status,  # type: ignore[arg-type]
        log={"fingerprint": f"log of {drive}", "content": f"content of {drive}", "size_bytes": 1000, **log},
        config=CONFIG,
        model={"sha256": "w"},
        exit_status={"complete": 0, "partial": 3, "failed": 1}.get(status),
        finished_utc="2026-11-22T01:30:00+00:00" if done else None,
        counts={"frames_in_log": 60} if done else {},
        timing={"wall_s": 2.0} if done else {},
        losses=[{"topic": "/a", "start_ns": 0, "stop_ns": 0, "count": 1, "reason": "x"}]
        if status == "partial"
        else [],
    )
    write_manifest(folder, manifest)
    return folder
