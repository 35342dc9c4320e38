"""Exported models on disk: what is beside them is checked, and what is wrong is said in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_batch.config import DetectConfig
from perception_batch.detect import find_weights, open_detector
from perception_batch.detect.detector_input import fit_view
from perception_batch.detect.export_cache import MODEL_STEM, may_replace, store
from perception_batch.detect.facts import ModelFacts, open_exported, read_facts
from perception_batch.errors import ConfigError, ModelError, PerceptionBatchError, WriteError

Make = Callable[[str], Path]
FACTS = ModelFacts(
    "onnx",
    "fp32",
    "dense",
    "letterbox",
    32,
    {0: "car", 3: "a\nb"},
    "net.pt",
    "ab" * 32,
    ((384, 640),),
    4,
    300,
    {"torch": "2"},
)


@pytest.fixture(scope="module")
def exported(make_weights: Make) -> Path:
    """Folder of an ONNX export."""
    weights = make_weights("yolo11n.yaml")
    return open_detector(
        DetectConfig(model=str(weights), backend="onnx", device="cpu", image_size=160)
    ).info.path.parent


def opened(path: Path) -> Any:
    return open_detector(DetectConfig(model=str(path), device="cpu", image_size=160))


def test_facts_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(FACTS.to_json())
    assert read_facts(path) == FACTS


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 99}, "schema"),
        ({"task": "segment"}, "detector"),
        ({"labels": {}}, "labels"),
        ({"labels": {"x": "car"}}, "labels"),
        ({"labels": ["car"]}, "labels"),
        ({"stride": 0}, "stride"),
        ({"stride": True}, "stride"),
        ({"stride": 1e9}, "stride"),
        ({"batch": -1}, "batch"),
        ({"backend": "tflite"}, "backend"),
        ({"form": ["dense"]}, "form"),
        ({"family": None}, "family"),
        ({"precision": "fp8"}, "precision"),
        ({"input_hw": [[384]]}, "input_hw"),
        ({"input_hw": [[384, 10**9]]}, "input_hw"),
        ({"sha256": "../x"}, "sha256"),
        ({"files": {"../../etc/passwd": "0"}}, "without a folder"),
        ({"files": {"model.onnx": 5}}, "files"),
        ({"calibration": 7}, "calibration"),
    ],
)
def test_facts_that_cannot_be(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**json.loads(FACTS.to_json()), **change}))
    with pytest.raises(ModelError, match=words) as caught:
        read_facts(path)
    assert "export the weights again" in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(
    key=st.sampled_from(sorted(json.loads(FACTS.to_json()))),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=6,
    ),
)
def test_any_facts_give_facts_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: object
) -> None:
    path = tmp_path_factory.mktemp("facts") / "model.json"
    path.write_text(json.dumps({**json.loads(FACTS.to_json()), key: value}))
    try:
        assert read_facts(path).labels
    except ModelError as error:
        assert str(error).isprintable()


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"schema": 1}', "[" * 5000, "\x00\xff"])
def test_files_that_are_no_facts(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ModelError):
        read_facts(path)
    with pytest.raises(ModelError, match="cannot be read"):
        read_facts(tmp_path / "absent.json")


def test_a_copied_export_runs_from_its_folder_and_its_file(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(exported, tmp_path / "data/models/mine")
    assert opened(folder).info.backend == opened(folder / "model.onnx").info.backend == "onnx"
    monkeypatch.chdir(tmp_path)
    assert find_weights("mine").resolve() == folder
    assert opened(Path("mine")).info.path.resolve() == folder / "model.onnx"


def test_what_is_wrong_with_an_export_is_said(exported: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        return shutil.copytree(exported, tmp_path / name)

    alone = copy("alone")
    (alone / "model.json").unlink()
    changed = copy("changed")
    with (changed / "model.onnx").open("ab") as file:
        file.write(b"x")
    two = copy("two")
    shutil.copy(two / "model.onnx", two / "other.onnx")
    renamed = copy("renamed")
    (renamed / "model.onnx").rename(renamed / "model.engine")
    unlisted = copy("unlisted")
    facts = json.loads((unlisted / "model.json").read_text())
    (unlisted / "model.json").write_text(json.dumps({**facts, "files": {}}))
    nonsense = copy("nonsense")
    (nonsense / "model.onnx").write_bytes(b"no graph at all")
    facts["files"] = {"model.onnx": __import__("hashlib").sha256(b"no graph at all").hexdigest()}
    (nonsense / "model.json").write_text(json.dumps(facts))
    for path, words in (
        (alone, "has no model.json beside it"),
        (changed, "is not the file that model.json describes"),
        (two, "holds several models: model.onnx, other.onnx"),
        (renamed, "describes a model for onnx"),
        (unlisted, "does not describe model.onnx"),
        (nonsense, "cannot be read by ONNX Runtime"),
        (tmp_path / "absent.onnx", "no weights"),
        (tmp_path, "no weights"),
    ):
        with pytest.raises(ModelError, match=words) as caught:
            opened(path)
        assert str(caught.value).isprintable()


def test_an_output_that_is_none_of_a_detector(exported: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(exported, tmp_path / "form")
    facts = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**facts, "form": "end2end"}))
    detector = opened(folder)
    view = detector.view((96, 160))
    with pytest.raises(ModelError, match="no detector's output"):
        detector.detect(np.zeros((1, *view.input_hw, 3), np.uint8), [view], [0.1])


def test_a_model_that_gives_too_few_boxes(exported: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(exported, tmp_path / "few")
    facts = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**facts, "max_detections": 100}))
    with pytest.raises(ConfigError, match="at most 100 boxes"):
        opened(folder)


def test_fixed_sizes_get_wider_bars() -> None:
    fit = {"image_size": 640, "stride": 32, "family": "letterbox", "roi_px": None, "rotate_deg": 0}
    free = fit_view((900, 1600), **fit)  # type: ignore[arg-type]
    assert (free.input_hw, free.pad_left_top) == ((384, 640), (0, 12))
    square = fit_view((900, 1600), **fit, only_hw=[(960, 960), (640, 640)])  # type: ignore[arg-type]
    assert (square.input_hw, square.resized_hw, square.pad_left_top) == ((640, 640), (360, 640), (0, 140))
    box = np.array([[100.0, 200.0, 300.0, 400.0]])
    np.testing.assert_allclose(square.to_original(square.to_input(box)), box, atol=1e-3)
    with pytest.raises(ConfigError, match="takes 320x320 only"):
        fit_view((900, 1600), **fit, only_hw=[(320, 320)])  # type: ignore[arg-type]


def test_exports_are_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "out"

    def half(into: Path) -> None:
        (into / "model.onnx").write_bytes(b"x")
        raise ModelError("no")

    with pytest.raises(ModelError, match="no"):
        store(folder, half)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
        store(tmp_path / "file" / "out", half)
    assert may_replace(folder)
    folder.mkdir()
    (folder / f"{MODEL_STEM}.onnx").write_text("")
    assert may_replace(folder)
    (folder / "thesis.tex").write_text("")
    assert not may_replace(folder)
    assert not may_replace(folder / "thesis.tex")


def test_open_exported_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(PerceptionBatchError, match="holds no exported model"):
        open_exported(tmp_path)
