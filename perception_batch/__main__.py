"""`python -m perception_batch` is `perception-batch`."""

from __future__ import annotations

import sys

from perception_batch.cli import main

if __name__ == "__main__":
    sys.exit(main())
