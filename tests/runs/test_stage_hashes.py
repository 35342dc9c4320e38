"""A change of a setting changes the hashes of exactly the stages that it redoes."""

from __future__ import annotations

from typing import Any

import pytest

from perception_batch.config import RunConfig
from perception_batch.runs.existing import Identity, difference
from perception_batch.runs.stage_hashes import stage_hashes

PLAIN = RunConfig().model_dump(mode="json")
NAMES = ("detect", "fuse", "render", "write")
AFTER = {
    "detect": set(NAMES),
    "fuse": {"fuse", "render", "write"},
    "render": {"render"},
    "write": {"write"},
    "none": set(),
}


def changed(config: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    section, name = key.split(".")
    return {**config, section: {**config[section], name: value}}


@pytest.mark.parametrize(
    ("key", "value", "stage"),
    [
        ("detect.keep_score", 0.1, "detect"),
        ("detect.score", {"car": 0.3}, "fuse"),
        ("detect.model", "elsewhere/yolo11n.pt", "none"),
        ("sync.every", 2, "detect"),
        ("decode.workers", 7, "none"),
        ("fuse.base_frame", "base", "detect"),
        ("render.crf", 30, "render"),
        ("write.timesteps", "none", "write"),
        ("runs.segment_s", 30.0, "detect"),
        ("runs.loss_limit_percent", 3.0, "none"),
    ],
)
def test_each_key_changes_its_stage_and_those_after_it(key: str, value: object, stage: str) -> None:
    before, after = stage_hashes(PLAIN, {}), stage_hashes(changed(PLAIN, key, value), {})
    assert {n for n in NAMES if getattr(before, n) != getattr(after, n)} == AFTER[stage]
    told = difference(Identity("", "", PLAIN, {}), Identity("", "", changed(PLAIN, key, value), {}))
    assert told.is_empty == (stage == "none")


def test_a_camera_that_is_named_with_its_defaults_changes_nothing() -> None:
    named = RunConfig.model_validate({"cameras": {"front": {}, "back": {"mask": []}}}).model_dump(mode="json")
    assert stage_hashes(named, {}) == stage_hashes(PLAIN, {})
    other = RunConfig.model_validate({"cameras": {"front": {"rotate_deg": 90}}}).model_dump(mode="json")
    assert stage_hashes(other, {}).detect != stage_hashes(PLAIN, {}).detect


def test_what_was_selected_counts_and_null_does_not() -> None:
    base = stage_hashes(PLAIN, {})
    assert stage_hashes(PLAIN, {"cameras": None, "start": None, "rig": None}) == base
    assert stage_hashes(PLAIN, {"start": 5}).detect != base.detect
    rig = stage_hashes(PLAIN, {"rig": "abc"})
    assert rig.detect == base.detect
    assert rig.fuse != base.fuse


def test_the_order_of_keys_does_not_count() -> None:
    turned = {section: PLAIN[section] for section in reversed(PLAIN)}
    assert stage_hashes(turned, {"a": 1, "b": 2}) == stage_hashes(PLAIN, {"b": 2, "a": 1})


@pytest.mark.parametrize("crops", ["none", "horizon"])
def test_calibration_decides_detections_where_crops_follow_it(crops: str) -> None:
    config = {**PLAIN, "detect": {**PLAIN["detect"], "tiles": crops}}
    lens = {**config, "cameras": {"front": {"intrinsics": {"model": "pinhole"}}}}
    for other in (stage_hashes(lens, {}), stage_hashes(config, {"rig": "abc"})):
        assert (other.detect != stage_hashes(config, {}).detect) == (crops == "horizon")
        assert other.fuse != stage_hashes(config, {}).fuse
