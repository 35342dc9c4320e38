"""How PyTorch's threads wait, and that nobody else hears of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import os
before = dict(os.environ)
from perception_batch.detect.torch_import import torch
assert torch.ones(2).sum() == 2
assert os.environ.get("OMP_WAIT_POLICY") == before.get("OMP_WAIT_POLICY")
"""


@pytest.mark.parametrize(("given", "sleeps"), [(None, True), ("active", False)])
def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(
    given: str | None, sleeps: bool
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if given is not None:
        environment["OMP_WAIT_POLICY"] = given
    environment["OMP_DISPLAY_ENV"] = "verbose"
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("this OpenMP does not say how it waits")
    assert ("GOMP_SPINCOUNT = '0'" in done.stderr) == sleeps
