"""What a run over a collection would do, before any log is opened."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perception_batch.errors import ConfigError
from perception_batch.runs.fingerprint import Content
from perception_batch.runs.ledger import Entry
from perception_batch.runs.nightly import Wanted, parse_since, plan_runs, plan_text
from perception_batch.runs.run_record import RunRecord
from perception_batch.runs.stage_hashes import StageHashes

HASHES = StageHashes("d", "f", "r", "w")
RECORD = RunRecord("a", "complete", "x", "c", "log", "weights", HASHES, 1000, 60, 0, 10.0, 0, "2026")
ENTRY = Entry("a", ("/a.bag",), RECORD, "c", 1000)
CONTENT = Content("c", 1000, 1, 100.0)


def action(entry: Entry, content: Content | None = CONTENT, **options: object) -> str:
    (planned,) = plan_runs([Wanted("a", content, entry)], HASHES, "weights", **options)  # type: ignore[arg-type]
    return planned.action


def test_the_table_of_actions() -> None:
    def having(**changes: object) -> Entry:
        return replace(ENTRY, record=replace(RECORD, **changes))  # type: ignore[arg-type]

    assert action(ENTRY) == "skip"
    assert action(having(status="partial")) == "skip"
    assert action(Entry("a")) == "run"
    assert action(Entry("a", message="failed before")) == "run"
    assert action(having(status="unfinished")) == "resume"
    assert action(having(status="failed")) == "resume"
    assert action(having(status="damaged", hashes=None)) == "refuse"
    assert action(having(status="newer", hashes=None)) == "refuse"
    assert action(having(weights_sha256="other")) == "refuse"
    assert action(having(hashes=None)) == "look"
    assert action(having(hashes=replace(HASHES, detect="x", fuse="x", render="x", write="x"))) == "look"
    assert action(having(hashes=replace(HASHES, fuse="x", render="x", write="x"))) == "fuse"
    assert action(having(hashes=replace(HASHES, render="x"))) == "render"
    assert action(having(hashes=replace(HASHES, write="x"))) == "write"
    assert action(replace(ENTRY, content="")) == "look"
    assert action(ENTRY, replace(CONTENT, fingerprint="changed")) == "look"
    assert action(ENTRY, None) == "look"
    assert action(having(weights_sha256="other"), overwrite=True) == "replace"
    assert action(ENTRY, overwrite=True) == "replace"
    assert action(Entry("a"), since_s=101.0) == "older"
    assert action(Entry("a"), since_s=100.0) == "run"
    assert action(Entry("a"), None, since_s=101.0) == "run"  # elsewhere: it cannot be told


def test_time_is_estimated_from_runs_with_the_same_settings() -> None:
    other = replace(
        ENTRY, drive="b", record=replace(RECORD, hashes=replace(HASHES, detect="x"), wall_s=1000.0)
    )
    known = [ENTRY, other, Entry("c"), replace(ENTRY, record=replace(RECORD, wall_s=0.0))]
    new = Wanted("n", replace(CONTENT, size_bytes=5000), Entry("n"))

    def seconds(*entries: Entry) -> float | None:
        return plan_runs([new], HASHES, "weights", known=entries)[0].seconds

    assert seconds(*known) == pytest.approx(50)
    assert seconds(other) == pytest.approx(5000)
    assert seconds() is None


def test_the_text() -> None:
    drives = [
        Wanted("done", CONTENT, ENTRY),
        Wanted("new\x1b", replace(CONTENT, size_bytes=400_000), Entry("new")),
        Wanted("other", CONTENT, replace(ENTRY, record=replace(RECORD, weights_sha256="x"))),
    ]
    text = plan_text(plan_runs(drives, HASHES, "weights", known=[ENTRY]))
    assert text.splitlines() == [
        "new\\x1b: run, about 67 min",
        "other: refuse (was made with other weights; give --overwrite to replace it, or another --out)",
        "3 drives: 1 refuse, 1 run, 1 skip",
        "about 67 min by the speed of earlier runs here",
    ]
    assert plan_text([]) == "no drives"


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("90s", 999_910.0),
        ("1.5h", 994_600.0),
        ("2 d", 827_200.0),
        ("1970-01-02", 86_400.0),
        ("1970-01-01T01:00:00Z", 3600.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
    ],
)
def test_since(text: str, at: float) -> None:
    assert parse_since(text, 1_000_000.0) == pytest.approx(at)


@pytest.mark.parametrize("text", ["", "yesterday", "-1d", "1y", "1" * 99 + "d", "2026-13-01", "nan", "²d"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ConfigError, match="--since"):
        parse_since(text, 0.0)
