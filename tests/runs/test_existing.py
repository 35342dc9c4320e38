"""What a changed setting costs: never less than it must, and an unchanged run costs nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from perception_batch.config import CameraConfig, RunConfig, parse_config
from perception_batch.runs import Difference, Identity, difference, stage_of_keys
from perception_batch.runs.existing import flatten, stage_of


def settings(**sections: Any) -> dict[str, Any]:
    """As a run stores them: through JSON."""
    config = parse_config(sections, "test").model_dump(mode="json")
    return json.loads(json.dumps(config, allow_nan=False))  # type: ignore[no-any-return]


def identity(config: dict[str, Any] | None = None, **changes: Any) -> Identity:
    selection = {"cameras": None, "start": None, "stop": None, "rig": None}
    return replace(Identity("f" * 64, "a" * 64, config or settings(), selection), **changes)


FULL: dict[str, Any] = {
    "cameras": {
        "front": {
            "roi_px": [0, 0, 10, 10],
            "mask": [[[0, 0], [1, 0], [1, 1]]],
            "score": {"car": 0.4},
            "classes": ["car"],
            "intrinsics": {"model": "pinhole", "fx_px": 3},
            "base_SE3_camera": {"position_m": [0, 0, 1], "quaternion_xyzw": [0, 0, 0, 1]},
        }
    },
    "detect": {"score": {"car": 0.5, "person": 0.3}},
    "ontology": {"van": {"group": "vehicle", "size_lwh_m": [5, 2, 2], "size_sd_m": [1, 1, 1]}},
}


@pytest.mark.parametrize("sections", [{}, FULL])
def test_the_same_settings_differ_in_nothing(sections: dict[str, Any]) -> None:
    stored = identity(settings(**sections))
    wanted = identity(parse_config(sections, "test").model_dump(mode="json"))
    assert difference(stored, wanted).is_empty
    assert difference(wanted, stored) == Difference()


STAGES = [
    ({"detect": {"score": 0.5}}, "fuse", "detect.score"),
    ({"detect": {"score": {"car": 0.5}}}, "fuse", "detect.score"),
    ({"detect": {"classes": ["car"]}}, "fuse", "detect.classes"),
    ({"detect": {"keep_score": 0.01}}, "detect", "detect.keep_score"),
    ({"detect": {"image_size": 1280}}, "detect", "detect.image_size"),
    ({"detect": {"iou": 0.5}}, "detect", "detect.iou"),
    ({"sync": {"tolerance_ms": 5.0}}, "detect", "sync.tolerance_ms"),
    ({"read": {"clock": "log"}}, "detect", "read.clock"),
    ({"fuse": {"max_range_m": 50}}, "fuse", "fuse.max_range_m"),
    ({"fuse": {"base_frame": "base_footprint"}}, "detect", "fuse.base_frame"),
    ({"track": {"lag_s": 0.5}}, "fuse", "track.lag_s"),
    ({"render": {"width_px": 640}}, "render", "render.width_px"),
    ({"render": {"video": False}}, "render", "render.video"),
    ({"write": {"timesteps": "jsonl.zst"}}, "write", "write.timesteps"),
    ({"cameras": {"a": {"rotate_deg": 180}}}, "detect", "cameras.a.rotate_deg"),
    ({"cameras": {"a": {"stamp_offset_ms": 3}}}, "detect", "cameras.a.stamp_offset_ms"),
    ({"cameras": {"a": {"max_range_m": 30}}}, "fuse", "cameras.a.max_range_m"),
    ({"cameras": {"a": {"score": {"car": 0.5}}}}, "fuse", "cameras.a.score.car"),
    ({"cameras": {"a": {"mask": [[[0, 0], [1, 0], [1, 1]]]}}}, "fuse", "cameras.a.mask"),
    ({"cameras": {"a": {"intrinsics": {"model": "pinhole"}}}}, "fuse", "cameras.a.intrinsics.model"),
    # Names of cameras may have dots (/front.mask/image_raw), and dots must not make a stage of a name.
    ({"cameras": {"a.mask": {"rotate_deg": 180}}}, "detect", "cameras.a.mask.rotate_deg"),
    ({"cameras": {"a.b": {"max_range_m": 30}}}, "fuse", "cameras.a.b.max_range_m"),
]


@pytest.mark.parametrize(("sections", "stage", "key"), STAGES)
def test_each_setting_redoes_its_stage_and_no_other(sections: dict[str, Any], stage: str, key: str) -> None:
    for old, new in ((settings(), settings(**sections)), (settings(**sections), settings())):
        change = difference(identity(old), identity(new))
        by_stage = {name: getattr(change, name) for name in ("detect", "fuse", "render", "write")}
        assert by_stage.pop(stage) == (key,)
        assert set(by_stage.values()) == {()}
        assert not change.is_empty
        assert stage_of_keys(old, new) == {key: stage}


@pytest.mark.parametrize(
    "sections",
    [
        {"decode": {"workers": 3, "queue_mb": 5}},
        {"runs": {"loss_limit_percent": 3}},
        {"detect": {"sha256": "a" * 64, "model": "elsewhere/yolo11n.pt"}},
        {"cameras": {"front": {}, "back": {"enabled": True, "rotate_deg": 0, "mask": [], "score": {}}}},
    ],
)
def test_what_changes_no_result_redoes_nothing(sections: dict[str, Any]) -> None:
    assert difference(identity(), identity(settings(**sections))).is_empty


def test_every_key_of_the_config_has_a_stage() -> None:
    """A new key is `detect` unless somebody decides otherwise: too much is redone, never too little."""
    names = {"a": dict.fromkeys(CameraConfig.model_fields, 1)}
    every = flatten({**RunConfig().model_dump(mode="json"), "cameras": names})
    stages = {".".join(path): stage_of(path) for path in every}
    assert set(stages.values()) == {"detect", "fuse", "render", "write", "none"}
    assert stage_of(("brand", "new")) == "detect"
    assert stage_of(("cameras", "a", "brand_new")) == "detect"
    assert stage_of(("cameras", "a")) == "detect"
    of_cameras = {
        key.split(".")[2] for key, stage in stages.items() if key.startswith("cameras.a.") and stage == "fuse"
    }
    assert of_cameras == {"mask", "score", "classes", "max_range_m", "intrinsics", "base_SE3_camera"}


def test_the_log_the_weights_and_the_selection() -> None:
    old = identity()
    assert difference(old, replace(old, fingerprint="0")).detect == ("the log",)
    assert "weights" in difference(old, replace(old, model_sha256="0")).detect[0]
    cut = {**old.selection, "start": 5}
    assert difference(old, replace(old, selection=cut)).detect == ("--start",)
    rig = difference(old, replace(old, selection={**old.selection, "rig": "c0ffee"}))
    assert (rig.detect, rig.fuse, rig.rig_hash) == ((), ("--rig",), "c0ffee")


def test_several_changes_are_all_named_in_order() -> None:
    new = settings(sync={"every": 2}, fuse={"gate_sigma": 2, "max_range_m": 9}, render={"crf": 30})
    change = difference(identity(), identity(new))
    assert change.detect == ("sync.every",)
    assert change.fuse == ("fuse.gate_sigma", "fuse.max_range_m")
    assert change.render == ("render.crf",)


def test_a_removed_class_of_the_ontology_redoes_fusion() -> None:
    change = difference(identity(), identity(settings(ontology={"dog": None})))
    assert change.detect == ()
    assert change.fuse
    assert all(key.startswith("ontology.dog.") for key in change.fuse)


def test_a_config_of_an_older_version_lacks_keys() -> None:
    old = settings()
    del old["fuse"]["gate_sigma"]
    assert difference(identity(old), identity()).fuse == ("fuse.gate_sigma",)
