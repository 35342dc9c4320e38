"""How a CPU's cores are shared out among copies of a network."""

from __future__ import annotations

import os

from perception_batch.config import DetectConfig

# Copies of a network on a CPU, each with threads of its own: threads of one copy wait for each other at every
# layer, and for whatever else runs on their cores (decoding, encoding); copies wait for nothing.
MOST_COPIES = 8


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_cores(settings: DetectConfig) -> tuple[int, int]:
    """Copies of the network, and threads of each; ``auto`` is one copy per core, at most `MOST_COPIES`."""
    copies = min(usable_cores(), MOST_COPIES) if settings.copies == "auto" else settings.copies
    threads = max(1, usable_cores() // copies) if settings.threads == "auto" else settings.threads
    return copies, threads
