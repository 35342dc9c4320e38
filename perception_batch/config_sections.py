"""The settings of each room: one frozen section per room, checked when it is made. `config` puts them together.

Every key, its unit and its default stand in ``configs/default.yaml``; a test keeps the two equal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from perception_batch.ontology import ROAD_USERS

Auto = Literal["auto"]
Score = Annotated[float, Field(ge=0, le=1)]
BitDepth = Annotated[int, Field(ge=8, le=16)]
Point = tuple[float, float]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _not_yet(value: object) -> object:
    if value is not None:
        raise ValueError("this key is reserved and not supported yet; leave it out")
    return value


NotYet = Annotated[object, AfterValidator(_not_yet)]


class PoseConfig(Section):
    """A camera's pose in the base frame."""

    position_m: tuple[float, float, float]
    quaternion_xyzw: tuple[float, float, float, float]


class CameraConfig(Section):
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


class ReadConfig(Section):
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


class RequireConfig(Section):
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


class SyncConfig(Section):
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


class DecodeConfig(Section):
    """Room `decode`."""

    workers: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    queue_mb: Annotated[float, Field(gt=0)] = 64.0
    bit_depth: BitDepth | Auto = "auto"
    reduced: bool = False


MAX_TILES = 64
"""Most crops of an image that `detect.tiles` may ask for."""


def _tiles(value: object) -> object:
    """One clear line for whatever is no way to cut an image."""
    if value in ("none", "horizon"):
        return value
    found = re.fullmatch(r"([1-9][0-9]?)x([1-9][0-9]?)", value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("allowed are none, horizon, and columns x rows such as 2x1 or 3x2 (crops)")
    if int(found[1]) * int(found[2]) > MAX_TILES:
        raise ValueError(f"{value} are {int(found[1]) * int(found[2])} crops, allowed are {MAX_TILES}")
    return value


class DetectConfig(Section):
    """Room `detect`."""

    model: str = "yolo11n.pt"
    sha256: str | None = None
    backend: Literal["auto", "torch", "openvino", "onnx", "tensorrt"] = "auto"
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    image_size: Annotated[int, Field(ge=32, le=8192)] = 640
    tiles: Annotated[str, BeforeValidator(_tiles)] = "none"
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
        numbered = [name.strip() for name in value.split(",")]
        if all(re.fullmatch(r"cuda:[0-9]{1,3}", name) for name in numbered):
            if len(set(numbered)) < len(numbered):
                raise ValueError(f"got {value!r}, which names a device twice")
            return ",".join(numbered)
        if value in ("auto", "cpu", "cuda"):
            return value
        raise ValueError(f"got {value!r}, allowed are auto, cpu, cuda, cuda:0, cuda:1, ... and cuda:0,cuda:1")

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


class FuseConfig(Section):
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
    lidar: str | None = None
    lidar_tolerance_ms: Annotated[float, Field(ge=0, le=1000)] = 60.0

    @field_validator("ego_footprint_m")
    @classmethod
    def _footprint(cls, value: Any) -> Any:
        if value is not None and not (value[0] < value[2] and value[1] < value[3]):
            raise ValueError(f"expected [x_min, y_min, x_max, y_max] in metres, got {list(value)}")
        return value


class TrackConfig(Section):
    """Room `track`."""

    lag_s: Annotated[float, Field(ge=0, le=60)] = 1.0
    max_gap_s: Annotated[float, Field(ge=0, le=60)] = 3.0
    confirm: Annotated[int, Field(ge=1, le=100)] = 4
    confirm_score: Score = 0.5
    confirm_weak_s: Annotated[float, Field(ge=0)] = 2.5
    gate_sigma: Annotated[float, Field(gt=0)] = 4.0


class RenderConfig(Section):
    """Room `render`."""

    video: bool = True
    width_px: Annotated[int, Field(ge=160, le=7680)] = 1920
    bird_eye: bool = True
    bird_eye_range_m: Annotated[float, Field(gt=0)] = 50.0
    crf: Annotated[int, Field(ge=0, le=51)] = 24
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"] = "superfast"
    codec: Literal["auto", "h264_nvenc", "libx264", "mpeg4"] = "auto"
    max_mb: Annotated[float, Field(gt=0)] | None = None
    per_camera: bool = False
    layout: Annotated[tuple[tuple[str, ...], ...], Field(min_length=1)] | Auto = "auto"


class WriteConfig(Section):
    """Room `write`."""

    timesteps: Literal["jsonl", "jsonl.zst", "none"] = "jsonl"
    mcap: bool = False
    rosbag: bool = False
    rerun: bool = False


class RunsConfig(Section):
    """Room `runs`."""

    segment_s: Annotated[float, Field(gt=0)] = 60.0
    loss_limit_percent: Annotated[float, Field(ge=0, le=100)] = 0.5
    keep_segments: bool = False
    retries: Annotated[int, Field(ge=0, le=100)] = 4
    retry_wait_s: Annotated[float, Field(ge=0, le=3600)] = 2.0
    quiet_s: Annotated[float, Field(ge=0)] = 60.0
    unclosed_s: Annotated[float, Field(ge=0)] = 3600.0
    hook_timeout_s: Annotated[float, Field(gt=0, le=1e6)] = 3600.0


class ObjectClassConfig(Section):
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
