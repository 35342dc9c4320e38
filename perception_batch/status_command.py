"""The words of `perception-batch status`. Only argparse is imported until the command runs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

EXAMPLE = "example: perception-batch status out"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument("out", metavar="OUT", help="what was given to `run --out`: a folder, or a URL")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="as given to `run`")
    parser.add_argument("--json", action="store_true", help="for programs")


def run_command(arguments: argparse.Namespace) -> int:
    """Print the state of every drive; 0 whatever it is.

    Raises:
        LogError: OUT is no folder.
        ConfigError, WriteError: the URL cannot be looked at.
    """
    from perception_batch.errors import LogError
    from perception_batch.runs.ledger import Ledger
    from perception_batch.runs.output_url import OutputUrl
    from perception_batch.runs.status import as_dict, as_text, collection_status

    url = OutputUrl.parse(arguments.out, arguments.scratch)
    if url is not None:
        from perception_batch.drive_output import collection_at, local_out
        from perception_batch.runs.retry import Backoff

        out = local_out(url)
        look = collection_at(url, out, Backoff(retries=1))
        if not look.listing:
            raise LogError(str(url), "nothing is there; give what was given to `run --out`")
        with Ledger(out, keep=False) as ledger:
            statuses, notes = look.statuses(ledger.entries()), ledger.notes
    else:
        out = Path(arguments.out)
        if not out.is_dir():
            raise LogError(out, "no such folder; give what was given to `run --out`")
        with Ledger(out, keep=False) as ledger:
            statuses, notes = collection_status(out, ledger.entries()), ledger.notes
    shown = out if url is None else str(url)
    text = (
        json.dumps(as_dict(shown, statuses, notes), indent=1) if arguments.json else as_text(statuses, notes)
    )
    sys.stdout.write(text + "\n")
    return 0
