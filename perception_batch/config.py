"""The run's settings, read from YAML and overrides. This and `config_sections` are all that speaks pydantic."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator

from perception_batch.config_sections import (
    CameraConfig,
    DecodeConfig,
    DetectConfig,
    FuseConfig,
    ObjectClassConfig,
    PoseConfig,
    ReadConfig,
    RenderConfig,
    RequireConfig,
    RunsConfig,
    Section,
    SyncConfig,
    TrackConfig,
    WriteConfig,
)
from perception_batch.errors import ConfigError, printable
from perception_batch.ontology import DEFAULT_CLASSES, ObjectClass, Ontology

__all__ = [
    "CameraConfig",
    "DecodeConfig",
    "DetectConfig",
    "FuseConfig",
    "ObjectClassConfig",
    "PoseConfig",
    "ReadConfig",
    "RenderConfig",
    "RequireConfig",
    "RunConfig",
    "RunsConfig",
    "SyncConfig",
    "TrackConfig",
    "WriteConfig",
    "load_config",
    "override_config",
    "parse_config",
]

MAX_CONFIG_BYTES = 4 << 20
_NO_CAMERA_SETTINGS = CameraConfig()


def _default_ontology() -> dict[str, ObjectClassConfig]:
    return {name: ObjectClassConfig(**entry) for name, entry in DEFAULT_CLASSES.items()}


class RunConfig(Section):
    """All settings of a run."""

    read: ReadConfig = ReadConfig()
    cameras: dict[str, CameraConfig] = Field(default_factory=dict)
    sync: SyncConfig = SyncConfig()
    decode: DecodeConfig = DecodeConfig()
    detect: DetectConfig = DetectConfig()
    fuse: FuseConfig = FuseConfig()
    track: TrackConfig = TrackConfig()
    render: RenderConfig = RenderConfig()
    write: WriteConfig = WriteConfig()
    runs: RunsConfig = RunsConfig()
    ontology: dict[str, ObjectClassConfig] = Field(default_factory=_default_ontology)

    @field_validator("ontology", mode="before")
    @classmethod
    def _over_default(cls, value: object) -> object:
        """A class given in part keeps the default table's other values; ``null`` removes a class."""
        if not isinstance(value, Mapping):
            return value
        merged: dict[str, Any] = {name: dict(entry) for name, entry in DEFAULT_CLASSES.items()}
        for name, entry in value.items():
            if entry is None:
                merged.pop(name, None)
            elif isinstance(entry, Mapping):
                merged[str(name)] = {**merged.get(str(name), {}), **entry}
            else:
                merged[str(name)] = entry
        return merged

    def cameras_by_name(self) -> dict[str, CameraConfig]:
        """Settings of the cameras that the config names, by the name that they have in the run."""
        return {own.rename or name: own for name, own in self.cameras.items()}

    def camera(self, name: str) -> CameraConfig:
        """Settings of one camera, by its name in the run; the defaults where the config does not name it."""
        return self.cameras_by_name().get(name, _NO_CAMERA_SETTINGS)

    def build_ontology(self) -> Ontology:
        """The ontology as the rooms use it."""
        return Ontology(
            {name: ObjectClass(name=name, **entry.model_dump()) for name, entry in self.ontology.items()}
        )


def load_config(path: str | Path | None = None, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a YAML file (none: the defaults) and apply ``section.key=value`` overrides; values are YAML.

    Raises:
        ConfigError: unreadable file, unknown key (with the nearest allowed one), or a value out of bounds.
    """
    data: dict[str, Any] = {}
    source = "--set"
    if path is not None:
        source = printable(path)
        data = _read_yaml(Path(path))
    for override in overrides:
        _apply(data, override)
    return parse_config(data, source)


def parse_config(data: Mapping[str, Any], source: str) -> RunConfig:
    """Check a mapping, such as the one stored in ``run.json``; `source` names it in errors."""
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(item, source) for item in error.errors()[:5])) from None


def override_config(config: RunConfig, overrides: Iterable[str]) -> RunConfig:
    """`config` with ``section.key=value`` overrides applied.

    Raises:
        ConfigError: as `load_config`.
    """
    data = config.model_dump(mode="json", exclude_none=True)
    for override in overrides:
        _apply(data, override)
    return parse_config(data, "--set")


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(
                f"{printable(path)}: larger than {MAX_CONFIG_BYTES >> 20} MiB, not a settings file"
            )
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{printable(path)}: no such settings file") from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError, RecursionError) as error:
        raise ConfigError(f"{printable(path)}: not YAML: {' '.join(str(error).split())}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(
            f"{printable(path)}: expected sections such as `detect:`, got a {type(loaded).__name__}"
        )
    return loaded


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise ConfigError(
            f"--set {printable(override)}: expected section.key=value, such as detect.score=0.3"
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {printable(override)}: the value is not YAML") from None
    node = data
    for part in parts[:-1]:
        child = node.get(part)
        if child is None:
            child = node[part] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"--set {printable(override)}: {part} is a value, not a section")
        node = child
    node[parts[-1]] = value


def _explain(item: Any, source: str) -> str:
    """One clear clause for one pydantic error."""
    location = [str(part) for part in item["loc"]]
    dotted = printable(".".join(location))
    if item["type"] == "extra_forbidden":
        allowed = _allowed_keys(location[:-1])
        near = difflib.get_close_matches(location[-1], allowed, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(allowed)}"
        return f"{source}: unknown key {dotted}; {hint}"
    got = item.get("input")
    shown = printable(repr(got))
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    message = str(item["msg"]).removeprefix("Value error, ")
    return f"{source}: {dotted}: {message[:1].lower() + message[1:]} (got {shown})"


def _allowed_keys(location: list[str]) -> list[str]:
    model: type[BaseModel] | None = RunConfig
    for i, part in enumerate(location):
        if i == 0 and part in ("cameras", "ontology"):
            model = None
        elif i == 1 and model is None:
            model = CameraConfig if location[0] == "cameras" else ObjectClassConfig
        elif model is not None and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            candidates = [annotation, *getattr(annotation, "__args__", ())]
            model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
    return list(model.model_fields) if model is not None else []
