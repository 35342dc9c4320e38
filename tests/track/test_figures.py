"""The figures that fusion and tracks must reach, on one short drawn drive with exact truth.

Drawing its truth takes about 12 s of one core, each run of it half a second. `scripts/benchmark_fusion.py` prints the
same figures of longer drives; its code makes and scores these.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perception_batch.config import load_config

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
SEED, DURATION_S = 2, 5.0


class Runs:
    """Runs of the drive, each made once."""

    def __init__(self, benchmark: Any, cache: Path) -> None:
        self.benchmark = benchmark
        self._settings = benchmark.EvaluateSettings()
        self._classes = benchmark.Classes(load_config().build_ontology())
        drive = benchmark.SimulateSettings(duration_s=DURATION_S, rate_hz=10.0, density=1.0, seed=SEED)
        self._drive = benchmark.open_drive(cache, drive, self._classes)
        self._made: dict[tuple[str, str], Any] = {}

    def of(self, noise: str, option: str = "track.lag_s=1") -> Any:
        """What came of boxes with that noise."""
        if (noise, option) not in self._made:
            found = self.benchmark.detections_of(self._drive, noise)
            config = load_config(None, [option])
            self._made[noise, option] = self.benchmark.run_drive(
                self._drive, found, config, self._classes, self._settings
            )
        return self._made[noise, option]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # the script would leave them set
            patch.setenv(name, "1")
        patch.syspath_prepend(str(SCRIPTS))
        yield Runs(importlib.import_module("benchmark_fusion"), tmp_path_factory.mktemp("truth"))


def test_clean_boxes_of_two_cameras_become_one_object(runs: Runs) -> None:
    pairs = runs.of("clean").pairs
    right = (pairs.same & pairs.fused).sum()
    assert pairs.same.sum() > 100
    assert right / pairs.same.sum() >= 0.99
    assert right / pairs.fused.sum() >= 0.99


@pytest.mark.parametrize(("noise", "least"), [("correlated", 0.93), ("independent", 0.95)])
def test_noisy_boxes_of_two_cameras_become_one_object(runs: Runs, noise: str, least: float) -> None:
    pairs = runs.of(noise).pairs
    assert 2 * (pairs.same & pairs.fused).sum() / (pairs.same.sum() + pairs.fused.sum()) >= least


@pytest.mark.parametrize(("noise", "least"), [("clean", 0.97), ("correlated", 0.80), ("independent", 0.88)])
def test_identities_last(runs: Runs, noise: str, least: float) -> None:
    tracks = runs.of(noise).tracks
    assert tracks.truth_rows > 300
    assert tracks.idf1 >= least


@pytest.mark.parametrize("noise", ["clean", "correlated", "independent"])
def test_ellipses_hold_the_truth(runs: Runs, noise: str) -> None:
    located = runs.of(noise).located
    inside = runs.benchmark.covered(located)
    assert 0.90 <= inside.mean() <= 0.99
    assert 0.90 <= inside[located.track_age_s >= 3.0].mean() <= 0.99


def test_ranges_are_right_in_the_middle(runs: Runs) -> None:
    assert np.median(np.abs(runs.benchmark.range_error(runs.of("clean").located))) <= 0.05


def test_hindsight_beats_filtering(runs: Runs) -> None:
    figures = runs.benchmark.compare([runs.of("clean")], [runs.of("clean", "track.lag_s=0")])
    for name, most in (("lateral position, m", 0.75), ("velocity, m/s", 0.75), ("range, m", 1.0)):
        with_lag, without, count = figures[name]
        assert count > 300
        assert with_lag <= most * without, name
