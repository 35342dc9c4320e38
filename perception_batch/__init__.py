"""Offline batch processing of vehicle camera recordings.

Log in, detections, fused objects and annotated video out. The names below load when first used, so that
importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perception_batch.api import Run, fuse, inspect, load_config, load_run, open_log, run

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "fuse", "inspect", "load_config", "load_run", "open_log", "run"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from perception_batch import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
