"""``--on-done CMD``: a command of the user's after each drive.

The command is split into words once, by a shell's rules and without a shell; names from logs come in within words and
in the environment, so that nothing in a name is ever a command. Who wants a shell writes ``sh -c '...'`` and takes the names from
the environment, quoted; a word that looks like a script is not filled in.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from perception_batch.errors import ConfigError, printable

_PREFIX = "PERCEPTION_BATCH_"
_FIELDS = ("drive", "directory", "status", "exit_status", "action")
_SCRIPT = frozenset(" \t\n;|&$`<>()'\"\\")
_GRACE_S = 5.0
_OUT_OF_TIME, _NOT_FOUND, _NOT_ALLOWED = 124, 127, 126


@dataclass(frozen=True, slots=True)
class DoneFacts:
    """What the command is told of a drive."""

    drive: str
    """Its name."""
    directory: str
    """``OUT/<drive>``."""
    status: str
    """``complete``, ``partial`` or ``failed``."""
    exit_status: int
    """What `run` would give for this drive alone."""
    action: str
    """``ran``, ``redid`` or ``failed``."""

    def environment(self) -> dict[str, str]:
        """``PERCEPTION_BATCH_DRIVE`` and so on; a zero byte has no place there."""
        return {_PREFIX + name.upper(): str(getattr(self, name)).replace("\0", "\\0") for name in _FIELDS}


def parse_hook(text: str) -> tuple[str, ...]:
    """The words of a command; ``{drive}`` and the other fields of `DoneFacts` may stand in them.

    Raises:
        ConfigError: no command, or an open quote.
    """
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise ConfigError(f"--on-done {printable(text)!r}: {error}") from None
    if not words:
        raise ConfigError("--on-done names no command")
    return words


def run_hook(
    words: tuple[str, ...],
    facts: DoneFacts,
    *,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run the command for one drive and wait for it; its output goes to stderr.

    Args:
        words: from `parse_hook`.
        facts: of the drive.
        timeout_s: then it and all that it has started are ended.
        environment: to which the facts are added; None: this process's.

    Returns:
        Its exit status; 128 + n where signal n ended it; 124 out of time, 127 not found, 126 not allowed.
    """
    filled = [_filled(word, facts) for word in words]
    around = dict(os.environ if environment is None else environment) | facts.environment()
    try:
        process = subprocess.Popen(
            filled, env=around, stdin=subprocess.DEVNULL, stdout=2, stderr=2, start_new_session=True
        )
    except FileNotFoundError:
        return _NOT_FOUND
    except (OSError, ValueError):
        return _NOT_ALLOWED
    try:
        status = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        _end(process)
        return _OUT_OF_TIME
    except BaseException:  # a signal to us: the command ends too
        _end(process)
        raise
    return status if status >= 0 else 128 - status


def _filled(word: str, facts: DoneFacts) -> str:
    """One pass, so that braces in a drive's name stay what they are; scripts get nothing."""
    if _SCRIPT & set(word):
        return word
    out, at = [], 0
    while at < len(word):
        name = next((n for n in _FIELDS if word.startswith(f"{{{n}}}", at)), None)
        out.append(word[at] if name is None else str(getattr(facts, name)).replace("\0", "\\0"))
        at += 1 if name is None else len(name) + 2
    return "".join(out)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number, wait_s in ((signal.SIGTERM, _GRACE_S), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)
            break
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # what it has started and left
