"""What a run does once at its start, beside opening the log and loading the model."""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

_BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
# Packages that a room imports where it first needs them: in the middle of a run all would wait for it.
OF_VIDEO = ("av",)
"""What a video needs."""
OF_IMAGE_TRACKS = ("trackers",)
"""What tracks in the images of uncalibrated cameras need: 0.7 s."""


@contextmanager
def many_imports() -> Iterator[None]:
    """For a block that imports much: the garbage collector would look through it again and again, and find nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def leave_quickly() -> None:
    """For a command: at the end of the process the garbage collector does not look through what goes anyway.

    That is up to a tenth of a second. Where PyTorch is loaded, Triton would count what nobody took apart, and complain.
    """
    atexit.register(_keep_all)


def _keep_all() -> None:
    if not {"torch", "triton"} & sys.modules.keys():
        gc.freeze()


def import_numpy() -> None:
    """Import NumPy and OpenCV, each with a BLAS of one thread, unless the environment says how many.

    Both bring an OpenBLAS, whose other threads wait by spinning: a tenth of a second of each core, once. No product
    here is large enough for two threads. The environment is as before afterwards: other libraries, and the programs
    that are started, read the same names.
    """
    one = not any(name in os.environ for name in _BLAS_THREADS)
    if one:
        os.environ[_BLAS_THREADS[0]] = "1"
    try:
        for name in ("numpy", "cv2"):
            with suppress(ImportError):  # said where it is needed
                importlib.import_module(name)
    finally:
        if one:
            del os.environ[_BLAS_THREADS[0]]


def import_ahead(names: Sequence[str] = (*OF_VIDEO, *OF_IMAGE_TRACKS)) -> None:
    """Import packages before they are needed. What is wrong with one is said by the one who needs it."""
    for name in names:
        with suppress(Exception):
            importlib.import_module(name)


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV from threads of its own: the images are spread over the decoding threads already."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


@contextmanager
def scheduled_as_batch() -> Iterator[None]:
    """Have Linux schedule the calling thread, and those begun meanwhile, as a batch job's (SCHED_BATCH).

    One that wakes then does not take the core from another that computes, whose data lie in the core's cache: a third
    of the switches, and 5 % more images a second on two cores. Nothing is taken from other programs. Where the thread
    was given another policy, or the system has none of this kind, all stays as it is.
    """
    if not hasattr(os, "SCHED_BATCH") or os.sched_getscheduler(0) != os.SCHED_OTHER:
        yield
        return
    before = os.sched_getparam(0)
    with suppress(OSError):  # a sandbox may forbid it
        os.sched_setscheduler(0, os.SCHED_BATCH, before)
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, before)
