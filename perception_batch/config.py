"""The run's settings: one frozen section per room, checked at the door. The only place that speaks pydantic.

Every key, its unit and its default stand in ``configs/default.yaml``; a test keeps the two equal.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from perception_batch.errors import ConfigError, printable
from perception_batch.ontology import DEFAULT_CLASSES, ROAD_USERS, ObjectClass, Ontology

Auto = Literal["auto"]
Score = Annotated[float, Field(ge=0, le=1)]
BitDepth = Annotated[int, Field(ge=8, le=16)]
Point = tuple[float, float]
MAX_CONFIG_BYTES = 4 << 20


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _not_yet(value: object) -> object:
    if value is not None:
        raise ValueError("this key is reserved and not supported yet; leave it out")
    return value


NotYet = Annotated[object, AfterValidator(_not_yet)]


class PoseConfig(_Section):
    """A camera's pose in the base frame."""

    position_m: tuple[float, float, float]
    quaternion_xyzw: tuple[float, float, float, float]


class CameraConfig(_Section):
    """Settings of one camera; every key is optional."""

    enabled: bool = True
    topic: str | None = None
    rename: str | None = None
    roi_px: tuple[int, int, int, int] | None = None
    rotate_deg: Literal[0, 90, 180, 270] = 0
    mask: tuple[tuple[Point, ...], ...] = ()
    image_size: Annotated[int, Field(ge=32, le=8192)] | None = None
    keep_score: Score | None = None
    score: Score | dict[str, Score] | None = None
    classes: tuple[str, ...] | None = None
    max_range_m: Annotated[float, Field(gt=0)] | None = None
    stamp_offset_ms: float = 0.0
    readout_ms: Annotated[float, Field(ge=0)] = 0.0
    bit_depth: BitDepth | Auto | None = None
    intrinsics: dict[str, Any] | None = None
    base_SE3_camera: PoseConfig | None = None
    rectify: NotYet = None
    model: NotYet = None

    @field_validator("mask")
    @classmethod
    def _polygons(cls, value: tuple[tuple[Point, ...], ...]) -> tuple[tuple[Point, ...], ...]:
        if any(len(polygon) < 3 for polygon in value):
            raise ValueError("each polygon of a mask needs at least three [x, y] points")
        return value


_NO_CAMERA_SETTINGS = CameraConfig()


class ReadConfig(_Section):
    """Room `read`."""

    clock: Literal["auto", "header", "publish", "log"] = "auto"
    head_mb: Annotated[float, Field(gt=0, le=4096)] = 64.0
    head_s: Annotated[float, Field(gt=0)] = 10.0
    max_image_mpx: Annotated[float, Field(gt=0)] = 64.0
    max_pose_gap_s: Annotated[float, Field(gt=0)] = 0.5
    ego: str = "auto"
    ego_offset_ms: Annotated[float, Field(ge=-1e15, le=1e15)] = 0.0
    gnss_heading: Literal["auto", "imu", "course"] = "auto"
    trajectory: str | None = None

    @field_validator("ego")
    @classmethod
    def _ego(cls, value: str) -> str:
        words = ("auto", "tf", "odometry", "pose", "gnss", "none")
        if value not in words and not value.startswith("/"):
            raise ValueError(f"allowed are {', '.join(words)}, or a topic, which begins with a slash")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> ReadConfig:
        if self.trajectory is not None and self.ego != "auto":
            raise ValueError(
                f"trajectory is given, and ego is {self.ego!r}: with a trajectory file leave ego at auto"
            )
        return self


class RequireConfig(_Section):
    """Which cameras a timestep must have: so many, or these."""

    require: Annotated[int, Field(ge=1)] | tuple[str, ...]


def _policy(value: object) -> object:
    """One clear line for whatever is no policy; a union's own errors would be one a branch."""
    if isinstance(value, RequireConfig) or value in ("keep", "drop", "hold"):
        return value
    if isinstance(value, Mapping) and set(value) == {"require"}:
        need = value["require"]
        if isinstance(need, int) and not isinstance(need, bool) and need >= 1:
            return value
        named = isinstance(need, (list, tuple)) and bool(need) and all(isinstance(n, str) for n in need)
        if named and len(set(need)) == len(need):
            return value
    raise ValueError("allowed are keep, drop, hold, {require: 4} (cameras) and {require: [front, rear]}")


class SyncConfig(_Section):
    """Room `sync`."""

    anchor: Literal["reference", "grid", "tightest", "trigger"] = "reference"
    reference: str = "auto"
    grid_hz: Annotated[float, Field(gt=0, le=10_000)] | Auto = "auto"
    trigger_topic: str | None = None
    tolerance_ms: Annotated[float, Field(gt=0)] | Auto = "auto"
    offsets_ms: dict[str, Annotated[float, Field(ge=-60_000, le=60_000)]] = Field(default_factory=dict)
    drift: Literal["report", "correct"] = "report"
    policy: Annotated[Literal["keep", "drop", "hold"] | RequireConfig, BeforeValidator(_policy)] = "keep"
    hold_max_age_ms: Annotated[float, Field(gt=0)] = 250.0
    window_mb: Annotated[float, Field(gt=0)] = 256.0
    every: Annotated[int, Field(ge=1)] = 1
    rate_hz: Annotated[float, Field(gt=0)] | None = None
    min_distance_m: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _has_trigger(self) -> SyncConfig:
        if self.anchor == "trigger" and self.trigger_topic is None:
            raise ValueError(
                "anchor trigger needs trigger_topic: the topic whose stamps make the timesteps, "
                "such as /camera_trigger or a lidar's"
            )
        return self


class DecodeConfig(_Section):
    """Room `decode`."""

    workers: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    queue_mb: Annotated[float, Field(gt=0)] = 64.0
    bit_depth: BitDepth | Auto = "auto"


class DetectConfig(_Section):
    """Room `detect`."""

    model: str = "yolo11n.pt"
    sha256: str | None = None
    backend: Literal["auto", "torch", "openvino", "onnx", "tensorrt"] = "auto"
    device: str = "auto"
    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    image_size: Annotated[int, Field(ge=32, le=8192)] = 640
    tiles: Literal["none"] = "none"
    batch_size: Annotated[int, Field(ge=1, le=4096)] | Auto = "auto"
    copies: Annotated[int, Field(ge=1, le=64)] | Auto = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | Auto = "auto"
    keep_score: Score = 0.05
    score: Score | dict[str, Score] = 0.25
    classes: tuple[str, ...] = ROAD_USERS
    iou: Score = 0.7
    max_detections: Annotated[int, Field(ge=1, le=10000)] = 300

    @field_validator("device")
    @classmethod
    def _device(cls, value: str) -> str:
        if value in ("auto", "cpu", "cuda") or (value.startswith("cuda:") and value[5:].isdigit()):
            return value
        raise ValueError(f"got {value!r}, allowed are auto, cpu, cuda, cuda:0, cuda:1, ...")

    @model_validator(mode="after")
    def _scores(self) -> DetectConfig:
        scores = self.score.values() if isinstance(self.score, dict) else [self.score]
        if any(score < self.keep_score for score in scores):
            raise ValueError(
                f"score {min(scores)} is below keep_score {self.keep_score}: boxes below keep_score are not "
                "kept; lower keep_score too"
            )
        return self

    def score_of(self, label: str) -> float:
        """Score from which a box called `label` counts as detected; labels not listed take 0.25."""
        if isinstance(self.score, dict):
            return self.score.get(label, max(0.25, self.keep_score))
        return self.score


class FuseConfig(_Section):
    """Room `fusion`."""

    base_frame: str = "auto"
    ground_z_m: float | Auto = "auto"
    max_range_m: Annotated[float, Field(gt=0)] = 120.0
    duplicate_iou: Score = 0.6
    gate_sigma: Annotated[float, Field(gt=0)] = 3.0
    box_sigma_px: Annotated[float, Field(gt=0)] = 2.0
    box_sigma_fraction: Annotated[float, Field(ge=0)] = 0.03
    pitch_sigma_deg: Annotated[float, Field(ge=0)] = 0.5
    ground_sigma_m: Annotated[float, Field(ge=0)] = 0.1
    slope_sigma: Annotated[float, Field(ge=0)] = 0.03
    ground_memory_s: Annotated[float, Field(ge=0)] = 1.0
    ego_footprint_m: tuple[float, float, float, float] | None = None

    @field_validator("ego_footprint_m")
    @classmethod
    def _footprint(cls, value: Any) -> Any:
        if value is not None and not (value[0] < value[2] and value[1] < value[3]):
            raise ValueError(f"expected [x_min, y_min, x_max, y_max] in metres, got {list(value)}")
        return value


class TrackConfig(_Section):
    """Room `track`."""

    lag_s: Annotated[float, Field(ge=0, le=60)] = 1.0
    max_gap_s: Annotated[float, Field(ge=0, le=60)] = 2.0
    confirm: Annotated[int, Field(ge=1, le=100)] = 4
    confirm_score: Score = 0.5
    confirm_weak_s: Annotated[float, Field(ge=0)] = 2.5
    gate_sigma: Annotated[float, Field(gt=0)] = 4.0


class RenderConfig(_Section):
    """Room `render`."""

    video: bool = True
    width_px: Annotated[int, Field(ge=160, le=7680)] = 1920
    bird_eye: bool = True
    bird_eye_range_m: Annotated[float, Field(gt=0)] = 50.0
    crf: Annotated[int, Field(ge=0, le=51)] = 24
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"] = "superfast"


class WriteConfig(_Section):
    """Room `write`."""

    timesteps: Literal["jsonl", "jsonl.zst", "none"] = "jsonl"
    mcap: Literal[False] = False
    rosbag: Literal[False] = False


class RunsConfig(_Section):
    """Room `runs`."""

    segment_s: Annotated[float, Field(gt=0)] = 60.0
    loss_limit_percent: Annotated[float, Field(ge=0, le=100)] = 0.5


class ObjectClassConfig(_Section):
    """One class of the ontology; keys left out keep the default table's value."""

    aliases: tuple[str, ...] = ()
    group: str
    size_lwh_m: tuple[float, float, float]
    size_sd_m: tuple[float, float, float]
    on_ground: bool = True
    color: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] = "#969696"

    @field_validator("size_lwh_m", "size_sd_m")
    @classmethod
    def _positive(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) <= 0:
            raise ValueError(f"sizes are positive metres, got {value}")
        return value


def _default_ontology() -> dict[str, ObjectClassConfig]:
    return {name: ObjectClassConfig(**entry) for name, entry in DEFAULT_CLASSES.items()}


class RunConfig(_Section):
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
