"""Dataclasses of arrays that have a column for each thing."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Self = TypeVar("Self", bound="Columns")


class Columns:
    """What a dataclass with slots inherits whose fields all are arrays with the things along their last axis."""

    __slots__ = ()

    def take(self: Self, columns: npt.NDArray[np.int64]) -> Self:
        """The given columns, in that order."""
        return type(self)(*[column.take(columns, -1) for column in self._columns()])

    def part(self: Self, start: int, stop: int) -> Self:
        """The columns from `start` to before `stop`, in the same memory."""
        return type(self)(*[column[..., start:stop] for column in self._columns()])

    def _columns(self) -> list[npt.NDArray[Any]]:
        names: tuple[str, ...] = self.__slots__
        return [getattr(self, name) for name in names]
