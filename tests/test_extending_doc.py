"""The detector that docs/extending.md writes does what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from perception_batch.cli import main

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"


def test_a_detector_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--preset", "front", "--duration", "0.8", "--rate", "5", "--size", "160x100", "--format", "bag"]
    assert main(["simulate", "drawn", *words]) == 0
    (tmp_path / "drawn" / "drive.bag").rename(tmp_path / "drive.bag")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    capsys.readouterr()
    exec(compile(code, str(PAGE), "exec"), {})  # noqa: S102 - our own page
    assert "'detections': 4" in capsys.readouterr().out
