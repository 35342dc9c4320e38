#!/usr/bin/env python3
"""Batch size against throughput, through the whole pipeline: `perception-batch benchmark` as a script.

    python scripts/benchmark_batch_size.py LOG|--draw --model yolo11n.pt [--batch-sizes 1,4,16] [--out DIR] ...

All options are those of the command. With --draw for a LOG a drive is drawn first (six cameras, 5 s), so that nothing but
weights is needed. What the figures mean: `docs/benchmark.md`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from perception_batch.cli import main


def run(words: list[str]) -> int:
    """The command; with a drawn drive where that is asked for."""
    if "--draw" not in words:
        return main(["benchmark", *words])
    words = [word for word in words if word != "--draw"]
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder) / "drawn"
        status = main(["simulate", str(drawn), "--duration", "5"])
        logs = sorted(p for p in drawn.rglob("*") if p.suffix in (".mcap", ".bag", ".db3"))
        return status or main(["benchmark", str(logs[0]), *words])


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
