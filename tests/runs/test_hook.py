"""``--on-done``: the user's words and no others."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from perception_batch.errors import ConfigError
from perception_batch.runs.hook import DoneFacts, parse_hook, run_hook

EVIL = "x; touch hurt; $(touch hurt) `touch hurt` {directory}"
FACTS = DoneFacts(EVIL, "/out/x", "complete", 0, "ran")
WRITE = (
    "import os, sys; open(sys.argv[1], 'w').write(repr((sys.argv[2:], os.environ['PERCEPTION_BATCH_DRIVE'])))"
)


def test_names_come_in_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = (sys.executable, "-c", WRITE, str(tmp_path / "got"), "--of={drive}", "{exit_status}", "{other}")
    assert run_hook(words, FACTS, timeout_s=30) == 0
    assert (tmp_path / "got").read_text() == repr(([f"--of={EVIL}", "0", "{other}"], EVIL))
    assert not (tmp_path / "hurt").exists()


def test_a_shell_gets_names_from_the_environment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = parse_hook(
        """sh -c 'printf %s "$PERCEPTION_BATCH_DRIVE" "${PERCEPTION_BATCH_STATUS}" {drive} > got'"""
    )
    assert run_hook(words, FACTS, timeout_s=30) == 0
    assert (tmp_path / "got").read_text() == f"{EVIL}complete{{drive}}"
    assert not (tmp_path / "hurt").exists()


@pytest.mark.parametrize("text", ["", "  ", "echo 'open", 'echo "'])
def test_what_is_no_command(text: str) -> None:
    with pytest.raises(ConfigError, match="--on-done"):
        parse_hook(text)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "kill -9 $$"), 137),
        (("/no/such/command",), 127),
        (("/",), 126),
        (("nul\0l",), 126),
    ],
)
def test_how_it_ended_is_told(words: tuple[str, ...], status: int) -> None:
    assert run_hook(words, FACTS, timeout_s=30) == status


def test_one_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    words = ("sh", "-c", f"(sleep 1.5; touch {tmp_path}/late) & exec sleep 60")
    before = time.monotonic()
    assert run_hook(words, FACTS, timeout_s=0.2) == 124
    assert time.monotonic() - before < 30
    time.sleep(1.6)
    assert not (tmp_path / "late").exists()
