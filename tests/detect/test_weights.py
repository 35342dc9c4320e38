"""Where weights are looked for, and what is said where they are not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from perception_batch.detect import find_weights, ultralytics_import, weights
from perception_batch.errors import ModelError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "_connected", lambda: False)


def test_places_in_order(tmp_path: Path) -> None:
    cached = tmp_path / "cache/perception_batch/models/net.pt"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"c")
    assert find_weights("net.pt") == cached
    (tmp_path / "data/models").mkdir(parents=True)
    (tmp_path / "data/models/net.pt").write_bytes(b"d")
    assert find_weights("net.pt").resolve() == tmp_path / "data/models/net.pt"
    (tmp_path / "net.pt").write_bytes(b"g")
    assert find_weights("net.pt").resolve() == tmp_path / "net.pt"
    assert find_weights(str(cached)) == cached


@pytest.mark.parametrize(
    "name",
    [
        "mine.pt",
        "yolo11n.pt",
        "runs/best.pt",
        "/no/such.pt",
        "",
        ".",
        "~nobody-here/x.pt",
        "a\0b.pt",
        "\x1b[2Jx.pt",
    ],
)
def test_not_found_says_where_it_looked(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        find_weights(name)
    text = str(caught.value)
    assert "no weights" in text
    assert "looked at" in text
    assert text.isprintable()
    assert ("downloaded" in text) == ("/" not in name and name != ".")


def test_published_names_are_downloaded_where_there_is_a_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fetch(target: Path) -> None:
        asked.append(target.name)
        target.write_bytes(b"weights")

    monkeypatch.setattr(weights, "_connected", lambda: True)
    monkeypatch.setattr(ultralytics_import, "ultralytics_download", fetch)
    found = find_weights("yolo11n.pt")
    assert found == tmp_path / "cache/perception_batch/models/yolo11n.pt"
    assert found.read_bytes() == b"weights"
    assert [p.name for p in found.parent.iterdir()] == ["yolo11n.pt"]
    for name in ("mine.pt", "runs/yolo11n.pt", "yolo11n.onnx"):
        with pytest.raises(ModelError):
            find_weights(name)
    assert asked == ["yolo11n.pt"]


def test_a_download_that_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(target: Path) -> None:
        target.write_bytes(b"half")
        raise ConnectionError("gone\nfor good")

    monkeypatch.setattr(weights, "_connected", lambda: True)
    monkeypatch.setattr(ultralytics_import, "ultralytics_download", fetch)
    with pytest.raises(ModelError, match="no weights"):
        find_weights("yolo11n.pt")
    assert list((tmp_path / "cache/perception_batch/models").iterdir()) == []


def test_a_name_server_that_never_answers_costs_a_bounded_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(weights, "_ASK_HOST", "import time; time.sleep(60)")
    monkeypatch.setattr(weights, "_CONNECTION_TIMEOUT_S", 0.2)
    start = time.monotonic()
    assert not weights._connected()
    assert time.monotonic() - start < 30
