"""PyTorch, imported so that its threads sleep while they wait for work.

By themselves OpenMP's threads wait by spinning, which takes the cores from those who have something to do: from the
decoding threads and from other processes that work on other drives. OpenMP reads how to wait once, when it is loaded.
"""

from __future__ import annotations

import os

__all__ = ["torch"]

_WAIT = "OMP_WAIT_POLICY"
_theirs = os.environ.get(_WAIT)
os.environ.setdefault(_WAIT, "passive")
try:
    import torch
finally:
    if _theirs is None:  # the programs that are started read the same name
        del os.environ[_WAIT]
