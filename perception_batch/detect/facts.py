"""What an exported model does not say of itself: read from the JSON beside it, checked, and written by `export`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from perception_batch.detect.postprocess import OutputForm
from perception_batch.detect.weights import sha256_of
from perception_batch.errors import ModelError, printable

BackendName = Literal["openvino", "onnx", "tensorrt"]
Precision = Literal["fp32", "fp16", "int8"]
"""Of a file. ``bf16`` is a way to run one in fp32, and has no file of its own."""
Family = Literal["letterbox", "stretch"]

SCHEMA = 1
"""Of the JSON, and of what the graphs take and give: another number is another export."""
MODEL_FILES: Mapping[str, BackendName] = {".xml": "openvino", ".onnx": "onnx", ".engine": "tensorrt"}
"""By ending, which backend runs an exported model."""
_MAX_FACTS_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What an exported model is, where it came from, and how its output is read."""

    backend: BackendName
    """Which library runs it."""
    precision: Precision
    """Of the network."""
    form: OutputForm
    """What its output holds."""
    family: Family
    """How an image becomes its input."""
    stride: int
    """Height and width of the input are multiples of this, px."""
    labels: Mapping[int, str]
    """The model's own class names by class number."""
    weights: str
    """Name of the weights file it was made from; empty where unknown."""
    sha256: str
    """Of that file, lower-case hex."""
    input_hw: tuple[tuple[int, int], ...] = ()
    """The input sizes it takes, px; empty: every multiple of `stride`."""
    batch: int = 0
    """Images in one call, at most; 0: any number."""
    max_detections: int = 0
    """Boxes an image that the graph gives at most; 0: it gives all."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """By package, what made it."""
    files: Mapping[str, str] = field(default_factory=dict)
    """By file name, the SHA-256 of the files beside the JSON."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """INT8: how many images, from where, and what was lost; see `quantize`."""

    def to_json(self) -> str:
        """Text that `read_facts` reads."""
        return json.dumps({"schema": SCHEMA, "task": "detect", **asdict(self)}, indent=1) + "\n"


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """An exported model on disk."""

    file: Path
    """Model file: ``.xml`` (its weights in a ``.bin`` beside it), ``.onnx`` or ``.engine``."""
    facts: ModelFacts
    """What it is."""


def is_exported(path: Path) -> bool:
    """Whether `path` names an exported model by its ending, or is a folder."""
    return path.suffix.lower() in MODEL_FILES or path.is_dir()


def open_exported(path: Path) -> ExportedModel:
    """The exported model that a file or folder holds; its files are as `export` left them.

    Raises:
        ModelError: none there or several, no facts beside it, facts that cannot be, or files changed since.
    """
    file = _model_file(path)
    beside = file.with_suffix(".json")
    if not beside.is_file():
        raise ModelError(
            f"{printable(file)} has no {printable(beside.name)} beside it, which names its classes and its input: keep "
            "the files that `perception-batch export` wrote together, or export the weights again"
        )
    facts = read_facts(beside)
    if MODEL_FILES[file.suffix.lower()] != facts.backend:
        raise ModelError(
            f"{printable(beside)} describes a model for {facts.backend}, not {printable(file.name)}"
        )
    for name, wanted in facts.files.items():
        if sha256_of(beside.parent / name) != wanted:
            raise ModelError(
                f"{printable(beside.parent / name)} is not the file that {printable(beside.name)} describes (its "
                "SHA-256 differs): copy both again, or export the weights again"
            )
    if file.name not in facts.files:
        raise ModelError(f"{printable(beside)} does not describe {printable(file.name)}")
    return ExportedModel(file, facts)


def read_facts(path: Path) -> ModelFacts:
    """Facts from a JSON file.

    Raises:
        ModelError: it cannot be read, or says what cannot be.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_FACTS_BYTES + 1)
        if len(text) > _MAX_FACTS_BYTES:
            raise ModelError(f"{printable(path)}: is larger than {_MAX_FACTS_BYTES} bytes: no model's facts")
        found = json.loads(text)
    except OSError as error:
        raise ModelError(f"{printable(path)}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ModelError(f"{printable(path)}: is not JSON; export the weights again") from None
    try:
        return _checked(found)
    except _Wrong as wrong:
        raise ModelError(f"{printable(path)}: {wrong}; export the weights again") from None


def _model_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    with suppress(OSError):
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in MODEL_FILES and p.is_file())
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(printable(p.name) for p in found[:8])
            raise ModelError(f"{printable(path)} holds several models: {names}; name one of them")
    raise ModelError(
        f"{printable(path)} holds no exported model: expected is a file that ends in {', '.join(MODEL_FILES)}"
    )


class _Wrong(Exception):
    """What is wrong with the facts."""


def _checked(found: Any) -> ModelFacts:
    if not isinstance(found, dict) or found.get("schema") != SCHEMA or found.get("task") != "detect":
        raise _Wrong(f"is no detector's facts of schema {SCHEMA}")
    labels = found.get("labels")
    if not isinstance(labels, dict) or not 0 < len(labels) <= np.iinfo(np.int16).max:
        raise _Wrong("labels must name the classes by number")
    try:
        names = {int(number): str(name) for number, name in labels.items()}
    except ValueError:
        raise _Wrong("labels must name the classes by number") from None
    sizes = found.get("input_hw")
    if not isinstance(sizes, list) or not all(
        isinstance(hw, list) and len(hw) == 2 and all(_whole(v, 32, 8192) for v in hw) for hw in sizes
    ):
        raise _Wrong("input_hw must list [height, width] in px")
    numbers = {"stride": (1, 512), "batch": (0, 4096), "max_detections": (0, 100_000)}
    for key, (least, most) in numbers.items():
        if not _whole(found.get(key), least, most):
            raise _Wrong(f"{key} must be a number from {least} to {most}")
    words = {"backend": BackendName, "precision": Precision, "form": OutputForm, "family": Family}
    for key, allowed in words.items():
        if found.get(key) not in get_args(allowed):
            raise _Wrong(f"{key} must be one of {', '.join(get_args(allowed))}")
    for key in ("versions", "files"):
        part = found.get(key)
        if not isinstance(part, dict) or not all(isinstance(v, str) for v in part.values()):
            raise _Wrong(f"{key} must map names to text")
    if not all(Path(name).name == name for name in found["files"]):
        raise _Wrong("files must be names without a folder")
    sha256 = found.get("sha256")
    if not isinstance(sha256, str) or len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise _Wrong("sha256 must be 64 hexadecimal digits")
    if not isinstance(found.get("calibration"), dict):
        raise _Wrong("calibration must be a mapping")
    return ModelFacts(
        backend=found["backend"],
        precision=found["precision"],
        form=found["form"],
        family=found["family"],
        stride=found["stride"],
        labels=names,
        weights=str(found.get("weights", "")),
        sha256=sha256,
        input_hw=tuple((h, w) for h, w in sizes),
        batch=found["batch"],
        max_detections=found["max_detections"],
        versions=found["versions"],
        files=found["files"],
        calibration=found["calibration"],
    )


def _whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
