"""Arrays from memory against `pyarrow.array`; and what is imported for them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.arrow_columns import column, numbers, repeated

INTS = {
    kind: st.integers(-(1 << bits), (1 << bits) - 1)
    for kind, bits in ((pa.int16(), 15), (pa.int32(), 31), (pa.int64(), 63))
}
KINDS = INTS | {
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
}


@pytest.mark.parametrize("kind", KINDS, ids=str)
@settings(deadline=None)  # pyarrow imports pandas in the first
@given(st.data())
def test_a_column_is_what_pyarrow_makes(kind: pa.DataType, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | KINDS[kind], max_size=40))
    found, expected = column(values, kind), pa.array(values, kind)
    found.validate(full=True)
    assert (found.type, found.null_count, len(found)) == (kind, expected.null_count, len(values))
    assert repr(found.to_pylist()) == repr(expected.to_pylist())  # NaN and -0.0 too


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.float32, np.float64, np.bool_])
@settings(deadline=None)  # pyarrow imports pandas in the first
@given(st.data())
def test_numbers_are_what_pyarrow_makes(dtype: type, data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 70))
    rng = np.random.default_rng(n)
    wide = rng.integers(0, 2, (n, 3)).astype(dtype)
    for values in (wide[:, 1], np.ascontiguousarray(wide[:, 1])):
        for unknown in (None, rng.random(n) < 0.3, np.zeros(n, bool)):
            found, expected = numbers(values, unknown), pa.array(values, mask=unknown)
            found.validate(full=True)
            assert found.equals(expected)
            assert found.null_count == expected.null_count


@pytest.mark.parametrize("n", [0, 1, 7])
@pytest.mark.parametrize("text", ["", "drive", "überall"])
def test_repeated(text: str, n: int) -> None:
    found = repeated(text, n)
    found.validate(full=True)
    assert found.equals(pa.array([text] * n, pa.string()))


@pytest.mark.parametrize(
    ("value", "kind"), [(1 << 15, pa.int16()), (1 << 31, pa.int32()), (1 << 63, pa.int64())]
)
def test_a_number_that_is_too_large_is_refused(value: int, kind: pa.DataType) -> None:
    with pytest.raises(OverflowError):
        column([0, None, value], kind)


def test_neither_pandas_nor_arrows_functions_are_imported() -> None:
    code = (
        "import sys\nimport numpy as np\nimport pyarrow as pa\nimport pyarrow.parquet as pq\n"
        "from perception_batch.arrow_columns import column, numbers, repeated\n"
        "arrays = [column(['a', None], pa.string()), numbers(np.zeros(2), np.array([True, False]))]\n"
        "arrays.append(repeated('x', 2))\n"
        "schema = pa.schema([('a', pa.string()), ('b', pa.float64()), ('c', pa.string())])\n"
        "table = pa.Table.from_batches([pa.RecordBatch.from_arrays(arrays, schema=schema)], schema).combine_chunks()\n"
        "pq.write_table(table.slice(0, 1), pa.BufferOutputStream())\n"
        "print(sorted({'pandas', 'pyarrow.compute'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
