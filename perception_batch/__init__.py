"""Offline batch processing of vehicle camera recordings."""

from __future__ import annotations

__version__ = "0.1.0"
