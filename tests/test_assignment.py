"""The solver that is loaded alone is SciPy's."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from perception_batch import assignment


@settings(deadline=None)
@given(st.integers(0, 1 << 32), st.integers(0, 9), st.integers(0, 9), st.booleans())
def test_best_pairs_are_those_of_scipy(seed: int, rows: int, columns: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    value = rng.integers(0, 3, (rows, columns)).astype(np.float32) if ties else rng.random((rows, columns))
    found, expected = assignment.best_pairs(value), linear_sum_assignment(value, maximize=True)
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]


def test_the_package_around_the_solver_is_not_imported() -> None:
    code = (
        "import sys\nimport numpy as np\nfrom perception_batch.assignment import best_pairs\n"
        "rows, columns = best_pairs(np.array([[1.0, 2.0], [0.0, 5.0]]))\n"
        "assert columns.tolist() == [0, 1] and rows.tolist() == [0, 1]\n"
        "print([name for name in sys.modules if name.startswith('scipy')])\n"
        "from scipy.optimize import linear_sum_assignment\n"
        "print(linear_sum_assignment(np.array([[1.0, 2.0], [0.0, 5.0]]), maximize=True)[1].tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[0, 1]"]


def test_a_scipy_that_is_built_otherwise_is_imported_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment.PathFinder, "find_spec", lambda *_: None)
    assert assignment._solver.__wrapped__() is linear_sum_assignment
