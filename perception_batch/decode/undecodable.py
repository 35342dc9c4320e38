"""How the parts of this room refuse an image; `decode_frame` adds whose it is."""

from __future__ import annotations


class UndecodableError(Exception):
    """One image gives no pixels."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        """Short stable word, as in ``frames.parquet``."""
        self.detail = detail
        """One line for people."""
        super().__init__(f"{reason}: {detail}")
