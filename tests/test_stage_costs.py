"""What the stages cost alone: the arithmetic, and the figures of a real run without threads."""

from __future__ import annotations

from pathlib import Path

import pytest

from perception_batch.batch_measurement import Request
from perception_batch.batch_sweep import in_own_process
from perception_batch.config import load_config
from perception_batch.stage_costs import StageCosts


def test_the_bound_is_what_the_cores_could_do_together() -> None:
    costs = StageCosts({"decode": 10.0, "detect": 35.0, "fuse": 1.0, "encode": 4.0}, cores=2)
    assert costs.sum_ms == 50
    assert costs.bound_per_s == pytest.approx(40.0)
    assert costs.share(38.0) == pytest.approx(0.95)
    assert costs.part(("fuse", "write")) == pytest.approx(0.02)
    assert "2 cores could do 40.0 images/s" in costs.in_words() and "2.0%" in costs.in_words()
    nothing = StageCosts({}, cores=2)
    assert (nothing.bound_per_s, nothing.share(1.0), nothing.part(("fuse",))) == (0.0, 0.0, 0.0)


@pytest.mark.real
def test_a_real_run_costs_what_its_stages_do(recordings: Path, weights: Path) -> None:
    settings = [f"detect.model={weights}", "detect.device=cpu", "detect.image_size=320"]
    config = load_config(None, [*settings, "detect.backend=torch", "detect.batch_size=2"])
    paths = (str(recordings / "kitti_0926"),)
    found = in_own_process(
        Request(paths, config.model_dump(mode="json", exclude_none=True), None, None, "stages")
    )
    cost = found["stages_core_ms"]
    assert {"read", "decode", "letterbox", "detect", "fuse", "draw", "write", "encode"} <= cost.keys()
    assert all(value >= 0 for value in cost.values())
    assert cost["detect"] > cost["decode"] > cost["read"]
    absent = in_own_process(
        Request(("absent.bag",), config.model_dump(mode="json", exclude_none=True), None, None, "stages")
    )
    assert "absent.bag" in absent["error"]
