"""A finished run against truth: AP, merges, positions, tracks, synchronisation.

`evaluate.command` knows the words of the command line and nothing heavy; `evaluate.scoring` does the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perception_batch.evaluate.report import Report
    from perception_batch.evaluate.scoring import evaluate
    from perception_batch.evaluate.settings import EvaluateSettings

__all__ = ["EvaluateSettings", "Report", "evaluate"]

_HOMES = {"evaluate": "scoring", "Report": "report", "EvaluateSettings": "settings"}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
