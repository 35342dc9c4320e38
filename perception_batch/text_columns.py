"""A table as lines of text."""

from __future__ import annotations

from collections.abc import Sequence


def columns(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """One line a row under a header; columns of words stand to the left, of numbers to the right."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    words = [not any(row[i][:1].isdigit() for row in cells[1:]) for i in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if to_left else cell.rjust(width)
            for cell, width, to_left in zip(row, widths, words, strict=True)
        ).rstrip()
        for row in cells
    ]
