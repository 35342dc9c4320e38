"""What a command costs as a process of its own: time, CPU time, memory, and who else was working meanwhile."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perception_batch.plain_loop import QUIET

# How late the end of a process may be seen, and how old its last known peak of memory may be.
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Process:
    """What a command used, and what it said."""

    wall_s: float
    """From its start to its exit."""
    cpu_s: float
    """User and system time."""
    peak_mb: float
    """Largest resident memory, 10^6 bytes."""
    other_cores: float
    """Cores that other processes kept busy meanwhile; NaN where the system does not tell."""
    last_line: str
    """Of its standard output."""


def measure(command: Sequence[str], folder: Path) -> Process:
    """Run a command and wait for it; `folder` takes its output.

    Raises:
        RuntimeError: it failed.
    """
    env = {**os.environ, **QUIET, "YOLO_CONFIG_DIR": str(folder)}
    with (folder / "stdout").open("w+b") as out, (folder / "stderr").open("w+b") as err:
        start, busy_s = time.perf_counter(), machine_busy_s()
        process = subprocess.Popen(command, stdout=out, stderr=err, env=env)
        try:
            peak_bytes = 0
            while True:
                peak_bytes = peak_memory_bytes(process.pid) or peak_bytes
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                time.sleep(POLL_S)
        except BaseException:
            process.kill()
            process.wait()
            raise
        wall_s, busy_s = time.perf_counter() - start, machine_busy_s() - busy_s
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        lines, complaint = out.read().decode().splitlines(), err.read().decode()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {complaint[-2000:]}")
    # Second choice, because `ru_maxrss` is never less than what the parent held at the start: getrusage(2).
    unit = 1 if sys.platform == "darwin" else 1024
    peak_mb = (peak_bytes or usage.ru_maxrss * unit) / 1e6
    cpu_s = usage.ru_utime + usage.ru_stime
    others = max(busy_s - cpu_s, 0.0) / wall_s
    return Process(wall_s, cpu_s, peak_mb, others, lines[-1] if lines else "")


def peak_memory_bytes(pid: int) -> int:
    """The most resident memory that a process has held so far; 0 where /proc does not tell."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024  # proc(5)
    except (OSError, ValueError):
        pass
    return 0


def machine_busy_s() -> float:
    """Seconds that all cores together have worked since the machine started; NaN where /proc does not tell."""
    try:
        words = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, words[1:9])  # proc(5)
    except (OSError, ValueError):
        return math.nan
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
