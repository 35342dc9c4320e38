"""Large JSON files record by record: memory holds one record, and a broken or hostile file ends in a clear error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

LONGEST_RECORD = 4_000_000
"""Characters; a COCO record has about 150, with a crowd's mask some thousands."""

_PIECE = 1 << 16
_BLANKS = re.compile(r"[ \t\r\n]*")


class BrokenJson(ValueError):
    """The file is no JSON object, or holds a record that is too long."""


def top_level_records(path: Path) -> Iterator[tuple[str, Any]]:
    """Of a JSON object in a file: for each key whose value is an array its elements, for others the value.

    Yields:
        Key and element (or value), in the file's order.

    Raises:
        BrokenJson: what comes next is not JSON, is nested too deeply, or is longer than `LONGEST_RECORD`.
        OSError: the file cannot be read.
    """
    with path.open(encoding="utf-8", errors="replace") as stream:
        yield from _Reader(stream).records()


class _Reader:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._text = ""
        self._at = 0
        self._decoder = json.JSONDecoder()

    def _more(self, characters: int = _PIECE) -> bool:
        piece = self._stream.read(characters)
        self._text = self._text[self._at :] + piece
        self._at = 0
        return bool(piece)

    def _peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            blanks = _BLANKS.match(self._text, self._at)
            self._at = blanks.end() if blanks else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _take(self, allowed: str) -> str:
        mark = self._peek()
        if not mark or mark not in allowed:
            got = repr(mark) if mark else "the end of the file"
            raise BrokenJson(f"expected one of {' '.join(allowed)}, got {got}")
        self._at += 1
        return mark

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError:
                raise BrokenJson("nested too deeply") from None
            except ValueError as error:
                # Either it is cut at the end of the piece, or it is no JSON: more text decides.
                held = len(self._text) - self._at
                if held > LONGEST_RECORD:
                    raise BrokenJson(f"no end of a record within {LONGEST_RECORD} characters") from None
                if not self._more(max(_PIECE, held)):
                    raise BrokenJson(str(error).partition(":")[0] or "not JSON") from None
                continue
            if end == len(self._text) and self._more():
                continue  # a number may go on in the next piece
            self._at = end
            return value

    def records(self) -> Iterator[tuple[str, Any]]:
        self._take("{")
        if self._peek() == "}":
            return
        while True:
            key = self._value()
            if not isinstance(key, str):
                raise BrokenJson("a key is not text")
            self._take(":")
            if self._peek() == "[":
                self._take("[")
                if self._peek() == "]":
                    self._take("]")
                else:
                    yield key, self._value()
                    while self._take(",]") == ",":
                        yield key, self._value()
            else:
                yield key, self._value()
            if self._take(",}") == "}":
                return
