"""What `detect.batch_size: auto` becomes: what a benchmark of this machine found, else a short measurement on CUDA.

On a CPU nothing is measured: every backend works there image by image or by small parts, so the size does not matter
(docs/detect.md), and its boxes are equal to the byte from size 4 on.
"""

from __future__ import annotations

import json
import logging
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from perception_batch.atomic import write_whole
from perception_batch.detect.cuda import cuda_memory, cuda_name
from perception_batch.detect.detector import Detector, DetectorInfo
from perception_batch.detect.preprocess import BAR_VALUE
from perception_batch.detect.weights import cache_dir
from perception_batch.errors import ModelError, WriteError
from perception_batch.geometry import DetectorView

logger = logging.getLogger(__name__)

NEAR_BEST = 0.97
"""The smallest batch with at least this share of the best throughput is chosen, as by the benchmark."""
CANDIDATES = (4, 8, 16, 32, 64, 128)
"""What is measured."""
MOST_BATCH_BYTES = 128 << 20
"""A batch of images on the host is not larger, ..."""
MOST_MEMORY_SHARE = 0.5
"""... and on the device takes not more of what was free, as far as the size before it tells."""
BUDGET_S = 3.0
"""The measurement ends after so long."""
_TIMED_CALLS = 3
_SCHEMA = 1
_MOST_ENTRIES = 200
_MOST_BYTES = 1 << 20
Entry = Mapping[str, Any]


def batch_size_file() -> Path:
    """Where chosen sizes are kept; it may be deleted at any time."""
    return cache_dir() / "batch_sizes.json"


def batch_size_key(info: DetectorInfo, input_hw: Iterable[tuple[int, int]]) -> str:
    """All that a chosen size depends on, as text: model, backend, precision, device, threads and input shapes."""
    device = info.device
    if device != "cpu":
        device = cuda_name(int(device.partition(":")[2] or 0)) or "cuda"
    shapes = "+".join(f"{h}x{w}" for h, w in sorted(set(input_hw)))
    threads = f"{info.copies}x{info.threads}"
    return " ".join((info.sha256, info.backend, info.precision, device.replace(" ", "_"), threads, shapes))


def known_batch_size(key: str) -> int | None:
    """What was chosen for this key before; None where nothing was, or the file is damaged."""
    size = _read().get(key, {}).get("batch_size")
    return size if isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= 4096 else None


def remember_batch_size(key: str, size: int, images_per_s: Mapping[int, float], source: str) -> None:
    """Keep a chosen size for the next run; where that cannot be written, it is chosen again.

    Args:
        key: of `batch_size_key`.
        size: what was chosen.
        images_per_s: by batch size, for people.
        source: ``benchmark``, which later measurements do not replace, or ``measurement``.
    """
    entries = _read()
    if source != "benchmark" and entries.get(key, {}).get("source") == "benchmark":
        return
    entries.pop(key, None)
    rates = {str(n): round(rate, 1) for n, rate in images_per_s.items()}
    entries[key] = {"batch_size": size, "source": source, "images_per_s": rates}
    kept = dict(list(entries.items())[-_MOST_ENTRIES:])
    text = json.dumps({"schema": _SCHEMA, "sizes": kept}, indent=1) + "\n"
    path = batch_size_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
    except (OSError, WriteError) as error:
        logger.info("the chosen batch size is not kept: %s", error)


def measure_batch_size(
    detector: Detector, input_hw: tuple[int, int], clock: Callable[[], float] = time.perf_counter
) -> dict[int, float]:
    """Images a second by batch size, of blank images of one shape; empty where nothing can be measured.

    It ends where a size brings nothing more, needs too much memory, or time is up. The detector is left at some size.

    Args:
        detector: of any backend; owned by the calling thread.
        input_hw: height and width of its input, px.
        clock: seconds.
    """
    index = None if detector.info.device == "cpu" else int(detector.info.device.partition(":")[2] or 0)
    most = detector.info.batch_size if detector.info.backend == "tensorrt" else CANDIDATES[-1]
    view = DetectorView(input_hw, (0, 0, input_hw[1], input_hw[0]), 0, input_hw, (0, 0), input_hw)
    found: dict[int, float] = {}
    start, free = clock(), _free_bytes(index)
    for size in (*(n for n in CANDIDATES if n < most), most):
        if found and size * input_hw[0] * input_hw[1] * 3 > MOST_BATCH_BYTES:
            break
        blank = np.full((size, *input_hw, 3), BAR_VALUE, np.uint8)
        views, keep = [view] * size, [0.5] * size
        try:
            detector.use_batch_size(size)
            detector.detect(blank, views, keep)  # the first one is slower
            times = []
            for _ in range(_TIMED_CALLS):
                before = clock()
                detector.detect(blank, views, keep)
                times.append(clock() - before)
        except ModelError as error:
            logger.info("batches of %d are too large: %s", size, error)
            break
        found[size] = size / max(statistics.median(times), 1e-9)
        used = max(0, free - _free_bytes(index))
        slower = len(found) > 1 and found[size] < NEAR_BEST * max(found.values())
        if slower or 2 * used > MOST_MEMORY_SHARE * free > 0 or clock() - start > BUDGET_S:
            break
    return found


def smallest_near_best(images_per_s: Mapping[int, float]) -> int:
    """The smallest size within 3 % of the best; at least one must be given."""
    best = max(images_per_s.values())
    return min(size for size, rate in images_per_s.items() if rate >= NEAR_BEST * best)


def _free_bytes(index: int | None) -> int:
    return 0 if index is None else cuda_memory(index)[0]


def _read() -> dict[str, dict[str, Any]]:
    try:
        with batch_size_file().open("rb") as stream:
            data = json.loads(stream.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    sizes = data.get("sizes") if isinstance(data, dict) and data.get("schema") == _SCHEMA else None
    if not isinstance(sizes, dict):
        return {}
    return {str(key): entry for key, entry in sizes.items() if isinstance(entry, dict)}
