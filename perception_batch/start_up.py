"""What a run does once at its start, beside opening the log and loading the model."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import cv2

# Packages that the rooms import where they first need them, by the time that takes: in the middle of a run the
# first timestep would wait for it, and all that is behind. pyarrow asks for pandas at its first array.
_LATE_IMPORTS = ("trackers", "scipy.optimize", "pyarrow.parquet", "pandas", "av")


def import_ahead() -> None:
    """Import what the stages will need. What is wrong with a package is said by the one who needs it."""
    for name in _LATE_IMPORTS:
        with suppress(Exception):
            importlib.import_module(name)


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV from threads of its own: the images are spread over the decoding threads already."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
