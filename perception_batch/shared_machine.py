"""How one machine is shared out among several processes that each work on a drive of their own."""

from __future__ import annotations

from perception_batch.config import DetectConfig, RunConfig
from perception_batch.detect.cores import share_cores, usable_cores


def share_of_machine(settings: DetectConfig, index: int, of: int) -> DetectConfig:
    """The settings of the detector of process `index` out of `of`.

    On a CPU the copies of the network are shared out; each keeps the threads that it has in a process alone, so that
    it finds the same boxes to the bit. Of several devices each process takes one, in turn.

    Args:
        settings: as for a process alone.
        index: from 0.
        of: how many processes.
    """
    changes: dict[str, object] = {"device": _device(settings.device, index)}
    copies, threads = share_cores(settings)
    if settings.threads == "auto":
        changes["threads"] = threads
    if settings.copies == "auto":
        changes["copies"] = max(1, copies // of)
    return settings.model_copy(update=changes)


def share_of_cores(of: int) -> int:
    """Threads that decode in each of so many processes."""
    return max(1, usable_cores() // of)


def decode_workers(config: RunConfig, share: int | None = None) -> int:
    """Threads that decode: as configured, else `share`, else as many as there are cores."""
    workers = config.decode.workers
    return share or usable_cores() if workers == "auto" else workers


def _device(device: str, index: int) -> str:
    if "," in device:
        names = device.split(",")
        return names[index % len(names)]
    if device not in ("auto", "cuda"):
        return device
    from perception_batch.detect.torch_import import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"cuda:{index % count}" if count > 1 else device
