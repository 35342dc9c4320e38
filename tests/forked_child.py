"""Something done in a child of this process, which has imported all that it needs."""

from __future__ import annotations

import os
from collections.abc import Callable


def start(work: Callable[[], int]) -> int:
    """Begin something in a child; gives its id."""
    pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = work()
    finally:
        os._exit(status)
