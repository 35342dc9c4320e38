"""Settings: the documented defaults are the real ones, and mistakes are explained in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from perception_batch.config import CameraConfig, RunConfig, load_config, override_config, parse_config
from perception_batch.errors import ConfigError

DEFAULT = Path(__file__).resolve().parent.parent / "configs" / "default.yaml"


def test_default_yaml_is_the_default() -> None:
    assert load_config(DEFAULT) == load_config(None) == RunConfig()


def test_default_yaml_documents_every_key() -> None:
    written = yaml.safe_load(DEFAULT.read_text())
    for section, values in RunConfig().model_dump(mode="json").items():
        assert section in written
        if section not in ("cameras", "ontology"):
            assert set(written[section]) == set(values), section
    text = DEFAULT.read_text()
    for key in set(CameraConfig.model_fields) - {"rectify", "model"}:
        assert f"#       {key}:" in text, f"cameras.<name>.{key} is not documented"


def test_every_default_line_has_its_unit_or_meaning() -> None:
    for line in DEFAULT.read_text().split("\nontology:")[0].splitlines():
        if line.startswith("  ") and ":" in line:
            assert "#" in line, f"no explanation: {line}"


def test_a_stored_config_reads_back_equal() -> None:
    config = load_config(
        None, ["cameras.a.mask=[[[0,0],[1,0],[1,1]]]", "detect.score={car: 0.4}", "ontology.dog=null"]
    )
    assert parse_config(config.model_dump(mode="json"), "run.json") == config.model_copy(
        update={"ontology": parse_config(config.model_dump(mode="json"), "x").ontology}
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("detect.scor=0.3", "unknown key detect.scor; did you mean 'score'?"),
        ("camras.a.topic=/x", "unknown key camras; did you mean 'cameras'?"),
        ("cameras.a.rotat=90", "unknown key cameras.a.rotat; did you mean 'rotate_deg'?"),
        ("ontology.car.colour='#123456'", "did you mean 'color'?"),
        ("detect.score=1.5", "less than or equal to 1"),
        ("detect.score=0.01", "below keep_score"),
        ("detect.batch_size=0", "greater than or equal to 1"),
        ("detect.device=gpu", "allowed are auto, cpu, cuda"),
        ("cameras.a.rotate_deg=45", "0, 90, 180 or 270"),
        ("cameras.a.rectify=true", "not supported yet"),
        ("cameras.a.mask=[[[0,0],[1,1]]]", "at least three"),
        ("sync.tolerance_ms=-1", "greater than 0"),
        ("sync.anchor=gird", "'reference'"),
        ("sync.anchor=trigger", "needs trigger_topic"),
        ("sync.policy=keeep", "allowed are keep, drop, hold"),
        ("sync.policy={require: 0}", "allowed are keep, drop, hold"),
        ("sync.policy={require: []}", "allowed are keep, drop, hold"),
        ("sync.policy={require: [a, a]}", "allowed are keep, drop, hold"),
        ("sync.policy={requires: 2}", "allowed are keep, drop, hold"),
        ("sync.offsets_ms.front=soon", "sync.offsets_ms.front"),
        ("sync.grid_hz=0", "sync.grid_hz"),
        ("write.mcap=maybe", "write.mcap"),
        ("render.layout=[]", "render.layout"),
        ("render.codec=h265", "render.codec"),
        ("detect.image_size=.nan", "detect.image_size"),
        ("detect=3", "expected section.key=value"),
        ("detect.score", "expected section.key=value"),
        ("detect.score=[", "not YAML"),
        ("detect.score.car.x=1", "detect.score"),
    ],
)
def test_a_wrong_setting_is_explained(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("detect: {scor: 1}", "my.yaml: unknown key detect.scor"),
        ("- a\n- b", "expected sections"),
        ("detect: [", "not YAML"),
        ("!!python/object:os.system {}", "not YAML"),
        ("a: &a [*a]", "unknown key a"),
        ("", ""),
    ],
)
def test_a_wrong_file_is_explained(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(text)
    if not message:
        assert load_config(file) == RunConfig()
        return
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such settings file"):
        load_config(tmp_path / "none.yaml")


def test_a_class_given_in_part_keeps_the_rest() -> None:
    config = load_config(
        None,
        [
            "ontology.car.size_lwh_m=[4.0, 1.8, 1.5]",
            "ontology.tuktuk={group: vehicle, size_lwh_m: [2,1,2], size_sd_m: [1,1,1]}",
            "ontology.dog=null",
        ],
    )
    ontology = config.build_ontology()
    car = ontology.classes["car"]
    assert car.size_lwh_m == (4.0, 1.8, 1.5)
    assert car.group == "vehicle"
    assert "van" in car.aliases
    assert ontology.find("tuktuk") is not None
    assert ontology.find("dog") is None


def test_overrides_go_over_a_stored_config() -> None:
    base = load_config(None, ["detect.score=0.4", "cameras.a.rotate_deg=180"])
    changed = override_config(base, ["detect.score=0.5"])
    assert changed.detect.score == 0.5
    assert changed.camera("a").rotate_deg == 180


def test_camera_settings_follow_a_renamed_camera() -> None:
    config = load_config(None, ["cameras.a.rename=front", "cameras.a.rotate_deg=90"])
    assert config.camera("front").rotate_deg == 90
    assert config.camera("a") == CameraConfig()
