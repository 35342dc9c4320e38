"""The loss of INT8: its figures are those of `evaluate`, and drawing timesteps again is what it says."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from evaluate.made import CAR, CLASSES, PERSON, T0, run_picture, run_step, truth_picture

from perception_batch.evaluate.detection import score_detection
from perception_batch.evaluate.pairing import PairedStep, pair_boxes
from perception_batch.evaluate.settings import EvaluateSettings

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    sys.modules.pop("measure_int8_loss", None)
    return importlib.import_module("measure_int8_loss")


def steps(seed: int, missed: float) -> list[PairedStep]:
    """Timesteps of two cameras, in which a share of the objects is missed."""
    rng, chance = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    out = []
    for number in range(12):
        pictures = []
        for camera in ("a", "b"):
            truths, found = [], []
            for k in range(int(rng.integers(0, 4))):
                x, y = rng.uniform(0, 800, 2)
                w, h = rng.uniform(40, 120, 2)
                label, score = int(rng.choice([CAR, PERSON])), float(rng.random())
                truths.append((k, label, [x, y, x + w, y + h]))
                if chance.random() >= missed:
                    found.append(([x, y, x + w, y + h], score, label, -1))
            truth = truth_picture(number, camera, truths)
            pictures.append(pair_boxes(run_picture(camera, T0, found), truth, CLASSES, EvaluateSettings()))
        out.append(PairedStep(run_step(number, []), number, tuple(pictures)))
    return out


def test_drawn_timesteps_count_as_often_as_they_are_drawn(script: Any) -> None:
    drive = steps(1, 0.3)
    resampled = script.Resampled(drive)
    for drawn in (list(range(12)), [3, 3, 3, 7], [0, 5, 5, 11, 2, 2]):
        expected = score_detection([drive[i] for i in drawn], CLASSES)
        assert resampled.ap50(drawn) == pytest.approx(expected.ap50, abs=1e-9)  # type: ignore[union-attr]


def test_the_interval_holds_the_difference(script: Any) -> None:
    arguments = SimpleNamespace(seed=0, block=2, resamples=60)
    found = script.compare({"fp32": steps(1, 0.1), "int8": steps(1, 0.4)}, CLASSES, arguments)
    low, high = found["interval_95"]
    assert low < found["difference"] < high < 0.1 and found["difference"] < -0.1
    same = script.compare({"fp32": steps(1, 0.1), "int8": steps(1, 0.1)}, CLASSES, arguments)
    assert same["difference"] == 0 and same["interval_95"] == [0, 0]
    text = script.as_text(found | {"weights": "m.pt", "drives": ["d"], "min_height_px": 30.0})
    assert "points of AP50" in text and f"{found['fp32']['truth_boxes']} truth boxes" in text


def test_contradictions_are_refused(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--draw", "2", "--drive", "a", "b"], ["--drive", "a", "b"], ["--draw", "0"]):
        with pytest.raises(SystemExit) as caught:
            script.parse(["m.pt", *words])
        assert caught.value.code == 2
    assert script.main(["absent.pt", "--drive", "a", "b", "--calibrate", "c"]) == 2
    assert "absent.pt" in capsys.readouterr().err
