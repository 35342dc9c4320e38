"""Objects and predictions as columns: as good as tuples of them, without an object for each thing that nobody looks at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, ClassVar, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

from perception_batch.records import records_of_columns
from perception_batch.types import FloatArray, FusedObject, Observation, Prediction

T = TypeVar("T")


class _Columnar(Sequence[T], Generic[T]):
    """A sequence of records that is kept as their columns; its fields have the names of the records' own."""

    __slots__ = ()
    _kind: ClassVar[type[Any]]
    _made: tuple[T, ...] | None

    def _records(self) -> tuple[T, ...]:
        if self._made is None:
            columns = {name: getattr(self, name) for name in vars(self._kind)["__slots__"]}
            for name, values in columns.items():
                if isinstance(values, np.ndarray) and values.ndim == 1:
                    columns[name] = values.tolist()
            object.__setattr__(self, "_made", tuple(records_of_columns(self._kind, len(self), columns)))
        return self._made or ()

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        return self._records()[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self._records())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._records() == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(n={len(self)})"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Predictions(_Columnar[Prediction]):
    """N `Prediction`s."""

    _kind: ClassVar[type[Any]] = Prediction
    track_id: npt.NDArray[np.int64]
    """(N,)."""
    label: Sequence[str]
    position_m: FloatArray
    """(N, 3)."""
    covariance_m2: FloatArray
    """(N, 3, 3)."""
    velocity_mps: FloatArray
    """(N, 3)."""
    _made: tuple[Prediction, ...] | None = field(default=None)

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def of(cls, items: Sequence[Prediction]) -> Predictions:
        """The same as columns."""
        if isinstance(items, Predictions):
            return items
        return cls(
            _column(items, "track_id", np.int64),
            [item.label for item in items],
            _column(items, "position_m", np.float64, 3),
            _column(items, "covariance_m2", np.float64, 3, 3),
            _column(items, "velocity_mps", np.float64, 3),
            tuple(items),
        )


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FusedObjects(_Columnar[FusedObject]):
    """N `FusedObject`s. Arrays may share memory, which is never written again."""

    _kind: ClassVar[type[Any]] = FusedObject
    class_id: npt.NDArray[np.int64]
    """(N,)."""
    label: Sequence[str]
    score: FloatArray
    """(N,)."""
    position_m: FloatArray
    """(N, 3)."""
    covariance_m2: FloatArray
    """(N, 3, 3)."""
    size_lwh_m: FloatArray
    """(N, 3)."""
    size_source: Sequence[str]
    yaw_rad: FloatArray
    """(N,)."""
    observations: Sequence[tuple[Observation, ...]]
    track_id: npt.NDArray[np.int64]
    """(N,)."""
    velocity_mps: FloatArray
    """(N, 3)."""
    filled: npt.NDArray[np.bool_]
    """(N,)."""
    own_m2: FloatArray
    """(N, 3, 3)."""
    shared_m: FloatArray
    """(N, 2, 3)."""
    _made: tuple[FusedObject, ...] | None = field(default=None)

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def of(cls, items: Sequence[FusedObject]) -> FusedObjects:
        """The same as columns."""
        if isinstance(items, FusedObjects):
            return items
        return cls(
            _column(items, "class_id", np.int64),
            [item.label for item in items],
            _column(items, "score", np.float64),
            _column(items, "position_m", np.float64, 3),
            _column(items, "covariance_m2", np.float64, 3, 3),
            _column(items, "size_lwh_m", np.float64, 3),
            [item.size_source for item in items],
            _column(items, "yaw_rad", np.float64),
            [item.observations for item in items],
            _column(items, "track_id", np.int64),
            _column(items, "velocity_mps", np.float64, 3),
            _column(items, "filled", np.bool_),
            _column(items, "own_m2", np.float64, 3, 3),
            _column(items, "shared_m", np.float64, 2, 3),
            tuple(items),
        )

    def take(self, rows: npt.NDArray[np.int64]) -> FusedObjects:
        """Those of `rows`, in that order."""
        numbers: list[int] = rows.tolist()
        columns: list[Any] = []
        for name in vars(FusedObject)["__slots__"]:
            column = getattr(self, name)
            arrayed = isinstance(column, np.ndarray)
            columns.append(column.take(rows, axis=0) if arrayed else [column[i] for i in numbers])
        return FusedObjects(*columns)

    @property
    def has_position(self) -> npt.NDArray[np.bool_]:
        """(N,) see `FusedObject.has_position`."""
        known: npt.NDArray[np.bool_] = np.isfinite(np.add.reduce(self.position_m, axis=1))
        return known


def _column(items: Sequence[object], name: str, dtype: npt.DTypeLike, *shape: int) -> npt.NDArray[Any]:
    """(N, ...) one field of N records."""
    return np.array(list(map(attrgetter(name), items)), dtype).reshape(len(items), *shape)
