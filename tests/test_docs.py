"""The pages name settings, files and pages that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from perception_batch.config import RunConfig

ROOT = Path(__file__).parent.parent
SECTIONS = ("read", "sync", "decode", "detect", "fuse", "track", "render", "write", "runs")
PAGES = sorted((ROOT / "docs").glob("*.md"))
GUIDES = ("configuration.md", "tuning.md", "extending.md", "tutorial.md")


@pytest.mark.parametrize("page", GUIDES)
def test_settings_that_guides_name_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    known = RunConfig().model_dump()
    others = {("sync", "tolerance"), ("sync", "png")}  # shown as a mistake; a file
    named = set(re.findall(rf"\b({'|'.join(SECTIONS)})\.([a-z][a-z_]+)\b", text)) - others
    assert [pair for pair in sorted(named) if pair[1] not in {*known[pair[0]], "py", "md"}] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_files_that_extending_names_exist() -> None:
    text = (ROOT / "docs" / "extending.md").read_text()
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_0-9]+)*\.py)\b", text))
    assert len(named) > 10
    bases = [ROOT, ROOT / "perception_batch", ROOT / "perception_batch/read/images"]
    assert [name for name in sorted(named) if not any((base / name).exists() for base in bases)] == []
