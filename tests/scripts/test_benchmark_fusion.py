"""The script that prints the figures of fusion and tracks: it runs, and keeps the truth that it has drawn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark_fusion.py"


def run(cache: Path, *more: str) -> str:
    words = [sys.executable, str(SCRIPT), "--cache", str(cache), "--duration", "1", "--seeds", "1", *more]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_it_prints_the_whole_table(tmp_path: Path) -> None:
    text = run(tmp_path, "--noise", "clean", "correlated")
    for word in ("clean", "correlated", "merges", "identities", "range", "95 % ellipse", "cost", "smoothing"):
        assert word in text
    (truth,) = tmp_path.iterdir()
    drawn = (truth / "boxes.parquet").stat().st_mtime_ns
    run(tmp_path, "--noise", "clean")
    assert (truth / "boxes.parquet").stat().st_mtime_ns == drawn
