"""The words of `perception-batch status`. Only argparse is imported until the command runs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

EXAMPLE = "example: perception-batch status out"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument("out", type=Path, metavar="OUT", help="what was given to `run --out`")
    parser.add_argument("--json", action="store_true", help="for programs")


def run_command(arguments: argparse.Namespace) -> int:
    """Print the state of every drive; 0 whatever it is.

    Raises:
        LogError: OUT is no folder.
    """
    from perception_batch.errors import LogError
    from perception_batch.runs.ledger import Ledger
    from perception_batch.runs.status import as_dict, as_text, collection_status

    out: Path = arguments.out
    if not out.is_dir():
        raise LogError(out, "no such folder; give what was given to `run --out`")
    with Ledger(out, keep=False) as ledger:
        statuses, notes = collection_status(out, ledger.entries()), ledger.notes
    text = json.dumps(as_dict(out, statuses, notes), indent=1) if arguments.json else as_text(statuses, notes)
    sys.stdout.write(text + "\n")
    return 0
