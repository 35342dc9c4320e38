"""Memory that is free and that the C library still holds, given back to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_EVERY = 8
"""Timesteps between two times: pictures of 6 MB each come and go, and glibc's aligned allocations do not always find
the room again that the ones before left (a drive of 300 timesteps with video grew by 1 GB)."""


class MemoryReturn:
    """Called once a timestep."""

    def __init__(self) -> None:
        self._count = 0
        self._trim = _malloc_trim()

    def step(self) -> None:
        """Give free memory back, at every few calls."""
        self._count += 1
        if self._trim is not None and self._count % _EVERY == 0:
            self._trim(0)


def _malloc_trim() -> Callable[[int], int] | None:
    """glibc's `malloc_trim(3)`; None in another C library."""
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
    return found
