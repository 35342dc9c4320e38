"""What the commands' options share: the settings' options, and numbers that are checked as they are read.

Light on purpose: only argparse is imported, so that ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any


def add_settings(parser: Any, *, config: bool = True) -> None:
    """Add ``--set`` and, unless `config` is false, ``--config`` to a parser or a group of its options."""
    if config:
        parser.add_argument(
            "--config", type=Path, metavar="FILE", help="YAML settings; see configs/default.yaml"
        )
    parser.add_argument(
        "--set", action="append", default=[], metavar="section.key=value", help="one setting; may be repeated"
    )


def positive_count(text: str) -> int:
    """An option's whole number >= 1."""
    return _count(text, 1)


def count(text: str) -> int:
    """An option's whole number >= 0."""
    return _count(text, 0)


def share(text: str) -> float:
    """An option's number within 0..1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not within 0..1")
    return value


def number(text: str) -> float:
    """An option's finite number >= 0."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number >= 0")
    return value


def comma_names(text: str) -> tuple[str, ...]:
    """An option's names, separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _count(text: str, least: int) -> int:
    value = int(text)
    if value < least:
        raise argparse.ArgumentTypeError(f"{text} is below {least}")
    return value
