"""Ultralytics, imported so that it leaves the process as it was.

At import it asks name servers whether there is a connection, writes a settings file, sets OpenCV to one thread
and OMP_NUM_THREADS to 1; when loading it may download files and install packages, and unpickling weights runs
whatever code they hold. All of that is switched off here, by the environment variables that it reads; where
the user has set one of them, the user's value stays.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perception_batch.errors import ModelError

_QUIET = {
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_VERBOSE": "false",
    "ULTRALYTICS_SAFE_LOAD": "1",
}
_TOUCHED = (
    "OMP_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "TF_CPP_MIN_LOG_LEVEL",
    "TORCH_CPP_LOG_LEVEL",
    "KINETO_LOG_LEVEL",
)


def load_checkpoint(path: Path) -> Any:
    """The network of an Ultralytics checkpoint, on the CPU, in fp32, fused, in eval mode.

    Raises:
        Exception: of any type; the file may hold anything.
    """
    with _imported():
        from ultralytics.nn import tasks

        safe = os.environ.get("ULTRALYTICS_SAFE_LOAD", "").strip().lower() in (
            "1",
            "true",
            "yes",
            "on",
            "y",
            "t",
        )
        if safe and not tasks.SAFE_LOAD:  # imported by someone else before, who had not asked for it
            tasks.torch_safe_load(str(path), safe_only=True)
        model, _ = tasks.load_checkpoint(str(path), device="cpu", fuse=True)
    return model


def is_published(name: str) -> bool:
    """Whether Ultralytics publishes weights of this name."""
    with _imported():
        from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES
    return name in GITHUB_ASSETS_NAMES


def ultralytics_download(target: Path) -> None:
    """Fetch the published weights called ``target.name`` to `target`.

    Raises:
        Exception: of any type; network and disk may fail in any way.
    """
    with _imported():
        from ultralytics.utils.downloads import attempt_download_asset

        attempt_download_asset(str(target))


@contextmanager
def _imported() -> Iterator[None]:
    """Ultralytics can be imported and called inside; afterwards the process is as before."""
    import cv2

    try:
        from perception_batch.detect.torch_import import torch
    except ImportError as error:
        raise ModelError(
            f"weights in .pt form need the package torch, which cannot be imported: {error}"
        ) from None

    saved = {name: os.environ.get(name) for name in (*_QUIET, *_TOUCHED, "YOLO_CONFIG_DIR")}
    cv2_threads, torch_threads = cv2.getNumThreads(), torch.get_num_threads()
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    ultralytics_logger = logging.getLogger("ultralytics")
    level = ultralytics_logger.level
    try:
        with tempfile.TemporaryDirectory(prefix="perception_batch-") as settings_dir:
            os.environ.setdefault("YOLO_CONFIG_DIR", settings_dir)
            try:
                import ultralytics.utils  # noqa: F401 - its side effects happen here
            except ImportError as error:
                raise ModelError(
                    f"weights in .pt form need the package ultralytics, which cannot be imported: {error}"
                ) from None
            ultralytics_logger.setLevel(logging.ERROR)
            yield
    finally:
        ultralytics_logger.setLevel(level)
        cv2.setNumThreads(cv2_threads)
        torch.set_num_threads(torch_threads)
        for name, old in saved.items():
            if old is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = old
