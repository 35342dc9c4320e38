"""The command and the page over several runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from report.report_run import T0, write_run
from report.test_run_pages import HOSTILE, Parts

from perception_batch.cli import main

DAY_NS = 86_400_000_000_000


def test_one_run_gives_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "drive")
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.split() == [str(run / "report.html")]
    assert not (tmp_path / "report.html").exists()
    assert not list(run.glob("*.partial"))


def test_a_folder_of_runs_gives_an_index(tmp_path: Path) -> None:
    for number, night in enumerate((0, 0, 1)):
        start = T0 + night * DAY_NS
        log = {"start_ns": start, "stop_ns": start + 10 * 10**9}
        timing = {"wall_s": 10.0 * (number + 1), "images_per_s": 6.0 - number}
        write_run(
            tmp_path / "out" / f"d{number}",
            drive=f"d{number}",
            video=False,
            missing=(),
            changes={"log": log, "timing": timing},
        )
    (tmp_path / "out" / "no_run").mkdir()
    assert main(["report", str(tmp_path / "out")]) == 0
    parts = Parts((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert [a["href"] for a in parts.of("a")] == [f"./d{n}/report.html" for n in range(3)]
    for link in parts.of("a"):
        assert (tmp_path / "out" / str(link["href"])).is_file()
    nights = parts.text[parts.text.index("images/s") :]
    assert nights.index("2025-10-09") < nights.index("2025-10-10")
    assert "5.3" in nights  # (10 s x 6 + 20 s x 5) / 30 s
    assert "3\u00a0drives fine" in parts.text
    keys = [attributes["data-key"] for attributes in parts.of("td") if "data-key" in attributes]
    assert str(T0) in keys


def test_bad_runs_stand_in_the_index_and_empty_folders_do_not_stop_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, odd = write_run(tmp_path / "good", video=False), write_run(tmp_path / "odd", video=False)
    (odd / "run.json").write_text("{")
    (tmp_path / "empty").mkdir()
    out = tmp_path / "pages" / "all.html"
    words = ["report", str(good), str(tmp_path / "empty"), str(odd), str(good), "--out", str(out)]
    assert main(words) == 3
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "run.json is missing" in said.err
    assert said.out.split()[-1] == str(out)
    parts = Parts(out.read_text(encoding="utf-8"))
    assert [a["href"] for a in parts.of("a")] == ["./../odd/report.html", "./../good/report.html"]
    assert "Not usable as it is" in parts.text


def test_nothing_at_all_is_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path), str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.count("\n") == 2


def test_hostile_folders_and_names_stay_text_and_links_stay_relative(tmp_path: Path) -> None:
    names = ["javascript:alert(1)", "a?b#c%20d", "<b>\"'&"]
    for name in names:
        write_run(tmp_path / name, drive=HOSTILE + name, video=False)
    assert main(["report", str(tmp_path)]) == 0
    parts = Parts((tmp_path / "report.html").read_text(encoding="utf-8"))
    for link in parts.of("a"):
        words = str(link["href"])
        assert words.startswith("./")
        assert not set(words) & set("?#<>\"'&:")
    assert not parts.of("img")
    assert not parts.of("b")
    assert [str(a["href"])[2:].count("/") for a in parts.of("a")] == [1, 1, 1]
