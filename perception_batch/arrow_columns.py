"""Arrow arrays straight from memory.

`pyarrow.array` asks of all that it is given whether it is pandas', and so imports pandas where that is installed: 0.2 s, in
the middle of a run. So does `pyarrow.scalar`. `take` imports `pyarrow.compute`. Nothing here does either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_NUMPY: dict[pa.DataType, np.dtype[Any]] = {
    pa.int16(): np.dtype(np.int16),
    pa.int32(): np.dtype(np.int32),
    pa.int64(): np.dtype(np.int64),
    pa.float32(): np.dtype(np.float32),
    pa.float64(): np.dtype(np.float64),
    pa.bool_(): np.dtype(np.bool_),
}
_ARROW = {dtype: kind for kind, dtype in _NUMPY.items()}


def numbers(values: npt.NDArray[Any], unknown: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """The Arrow array of a NumPy array, of the same type; the memory is shared where that can be.

    Args:
        values: (N,) of any type that a table has.
        unknown: (N,) which are null; None: none is.
    """
    kind = _ARROW[values.dtype]
    data = np.packbits(values, bitorder="little") if kind == pa.bool_() else np.ascontiguousarray(values)
    return pa.Array.from_buffers(kind, len(values), [_validity(unknown), pa.py_buffer(data)])


def column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """The Arrow array of Python values; None is null.

    Raises:
        OverflowError: a number is too large for the type.
    """
    unknown = None
    is_text = kind == pa.string()
    if None in values:
        unknown = np.array([value is None for value in values])
        nothing: str | int = "" if is_text else 0
        values = [nothing if value is None else value for value in values]
    return _texts(values, unknown) if is_text else numbers(np.array(values, _NUMPY[kind]), unknown)


def repeated(value: str, n: int) -> pa.Array:
    """The same text in `n` rows."""
    data = value.encode()
    offsets = np.arange(n + 1, dtype=np.int32) * np.int32(len(data))
    return pa.Array.from_buffers(pa.string(), n, [None, pa.py_buffer(offsets), pa.py_buffer(data * n)])


def _texts(values: Sequence[str], unknown: npt.NDArray[np.bool_] | None) -> pa.Array:
    joined = "".join(values)
    data = joined.encode()
    plain = len(data) == len(joined)
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum([len(text) if plain else len(text.encode()) for text in values], out=offsets[1:])
    buffers = [_validity(unknown), pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


def _validity(unknown: npt.NDArray[np.bool_] | None) -> pa.Buffer | None:
    """Arrow's bitmap of what is there; None where nothing is missing."""
    if unknown is None or not unknown.any():
        return None
    return pa.py_buffer(np.packbits(~unknown, bitorder="little"))
