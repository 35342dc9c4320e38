"""Which backend runs a model: the one that it was exported for, the one asked for, or the fastest to be had."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from perception_batch.config import DetectConfig
from perception_batch.detect.cuda import choose_cuda
from perception_batch.detect.detector import Detector
from perception_batch.detect.export_cache import find_cached
from perception_batch.detect.exported import BackendError
from perception_batch.detect.facts import (
    BackendName,
    ExportedModel,
    Precision,
    is_exported,
    open_exported,
)
from perception_batch.detect.weights import pinned_sha256, sha256_of
from perception_batch.errors import ConfigError, ModelError, WriteError, printable

logger = logging.getLogger(__name__)

RUNTIMES: Mapping[BackendName, str] = {
    "openvino": "openvino",
    "onnx": "onnxruntime",
    "tensorrt": "tensorrt",
}
"""By backend, the package that runs it."""
EXTRAS: Mapping[BackendName, str] = {"openvino": "cpu", "onnx": "onnx", "tensorrt": "tensorrt"}
"""By backend, the extra of this package that installs it."""
# Fastest first, as measured on a CPU with YOLO11n at 384x640; PyTorch comes after them.
RunPrecision = Literal["fp32", "bf16", "fp16", "int8"]
_ON_CPU: tuple[BackendName, ...] = ("openvino", "onnx")


def open_model(settings: DetectConfig, path: Path) -> Detector:
    """The detector for weights or for an exported model.

    Raises:
        ConfigError: settings that contradict each other, the model or the machine.
        ModelError: no detector, other weights than pinned, no such device, a package missing, or no export to be had.
    """
    if is_exported(path):
        return _open_exported(settings, open_exported(path))
    if settings.backend == "torch":
        return _open_torch(settings, path)
    sha256 = pinned_sha256(settings, path)
    if settings.backend == "auto":
        return _open_fastest(settings, path, sha256)
    if not _installed(RUNTIMES[settings.backend]):
        raise ModelError(
            f"detect.backend {settings.backend} needs the package {RUNTIMES[settings.backend]}: pip install "
            f"'perception_batch[{EXTRAS[settings.backend]}]', or choose detect.backend=auto"
        )
    return _open_exported(settings, _exported_form(settings, path, sha256, settings.backend))


def available_forms(settings: DetectConfig, path: Path) -> tuple[tuple[str, RunPrecision], ...]:
    """The (`detect.backend`, `detect.precision`) that a model can be opened with here, without exporting anything.

    Raises:
        ModelError: the model cannot be read.
    """
    if is_exported(path):
        facts = open_exported(path).facts
        if not _installed(RUNTIMES[facts.backend]):
            return ()
        both = (facts.backend, facts.precision) == ("openvino", "fp32") and _openvino_has_bf16()
        return ((facts.backend, facts.precision), *((("openvino", "bf16"),) if both else ()))
    on_cuda = choose_cuda(settings.device) is not None
    forms: list[tuple[str, RunPrecision]] = []
    if _installed("torch") and _installed("torchvision") and _installed("ultralytics"):
        forms += [("torch", "fp32"), ("torch", "fp16")] if on_cuda else [("torch", "fp32")]
    sha256 = sha256_of(path)
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8")
    for backend, package in RUNTIMES.items():
        if (
            not _installed(package)
            or (backend == "tensorrt" and not on_cuda)
            or (backend == "openvino" and on_cuda)
        ):
            continue
        for precision in precisions:
            if find_cached(path, sha256, backend, precision, settings.image_size) is not None:
                forms.append((backend, precision))
                if (backend, precision) == ("openvino", "fp32") and _openvino_has_bf16():
                    forms.append((backend, "bf16"))
    return tuple(forms)


def _open_fastest(settings: DetectConfig, path: Path, sha256: str) -> Detector:
    """What `auto` means for weights: each way is tried in turn, and what is wrong with it said."""
    if choose_cuda(settings.device) is not None:
        engine = _cached(settings, path, sha256, "tensorrt") if _installed("tensorrt") else None
        if engine is not None:
            return _open_exported(settings, engine)
        if _torch_has_cuda():
            return _open_torch(settings, path)
        if _onnx_has_cuda():
            return _open_exported(settings, _exported_form(settings, path, sha256, "onnx"))
        if settings.device != "auto":
            return _open_torch(settings, path)  # says what is missing
        logger.warning("there is a CUDA device, and no installed library that uses it: going on on the CPU")
    failed: BackendError | WriteError | None = None
    for backend in _ON_CPU if settings.precision != "fp16" else ():
        if not _installed(RUNTIMES[backend]) or (
            settings.precision in ("int8", "bf16") and backend != "openvino"
        ):
            continue
        try:
            return _open_exported(settings, _exported_form(settings, path, sha256, backend))
        except (BackendError, WriteError) as error:
            logger.warning("going on without %s: %s", backend, error)
            failed = error
    if failed is not None and not (_installed("torch") and _installed("ultralytics")):
        raise failed
    return _open_torch(settings, path)


def _exported_form(settings: DetectConfig, path: Path, sha256: str, backend: BackendName) -> ExportedModel:
    """The export of weights, from the cache or made now.

    Raises:
        ModelError: it is not in the cache and cannot be made.
    """
    found = _cached(settings, path, sha256, backend)
    if found is not None:
        return found
    precision = _precision(settings, backend)
    if precision == "int8":
        raise ModelError(
            f"{printable(path)} has no int8 form of this version in the cache: make it with frames of your own log by "
            f"`perception-batch export {printable(path)} --backend {backend} --precision int8 --calibrate LOG`"
        )
    missing = [name for name in ("torch", "ultralytics") if not _installed(name)]
    if missing:
        raise BackendError(
            f"{printable(path)} was never exported to {backend} here, which needs the packages {', '.join(missing)}: "
            "install them, or name a model that `perception-batch export` made"
        )
    from perception_batch.detect.export import ExportRequest, export_model

    logger.info("exporting %s to %s once, into the cache", printable(path), backend)
    return export_model(ExportRequest(path, backend, precision, settings.image_size, settings.max_detections))


def _cached(settings: DetectConfig, path: Path, sha256: str, backend: BackendName) -> ExportedModel | None:
    return find_cached(path, sha256, backend, _precision(settings, backend), settings.image_size)


def _precision(settings: DetectConfig, backend: BackendName) -> Precision:
    if settings.precision == "bf16":
        if backend != "openvino":
            raise ConfigError(
                f"detect.precision bf16 is a matter of the backend openvino, and {backend} was chosen: allowed there "
                "are auto, fp32, fp16"
            )
        return "fp32"
    if settings.precision != "auto":
        return settings.precision
    return (
        "fp16" if backend == "tensorrt" or (backend == "onnx" and _onnx_has_cuda(settings.device)) else "fp32"
    )


def _open_exported(settings: DetectConfig, model: ExportedModel) -> Detector:
    backend = model.facts.backend
    if not _installed(RUNTIMES[backend]):
        raise ModelError(
            f"{printable(model.file)} needs the package {RUNTIMES[backend]}: pip install "
            f"'perception_batch[{EXTRAS[backend]}]'"
        )
    detector = _OPENERS[backend](settings, model)
    _say(detector)
    return detector


def _open_torch(settings: DetectConfig, path: Path) -> Detector:
    missing = [name for name in ("torch", "torchvision", "ultralytics") if not _installed(name)]
    if missing:
        raise ModelError(
            f"{printable(path)} needs the packages {', '.join(missing)}: install them, or name a model that "
            "`perception-batch export` made"
        )
    from perception_batch.detect.torch_backend import TorchDetector

    detector = TorchDetector.open(settings, path)
    _say(detector)
    return detector


def _open_openvino(settings: DetectConfig, model: ExportedModel) -> Detector:
    from perception_batch.detect.openvino_backend import open_openvino

    return open_openvino(settings, model)


def _open_onnx(settings: DetectConfig, model: ExportedModel) -> Detector:
    from perception_batch.detect.onnx_backend import open_onnx

    return open_onnx(settings, model)


def _open_tensorrt(settings: DetectConfig, model: ExportedModel) -> Detector:
    from perception_batch.detect.tensorrt_backend import open_tensorrt

    return open_tensorrt(settings, model)


_OPENERS: Mapping[BackendName, Callable[[DetectConfig, ExportedModel], Detector]] = {
    "openvino": _open_openvino,
    "onnx": _open_onnx,
    "tensorrt": _open_tensorrt,
}


def _say(detector: Detector) -> None:
    info = detector.info
    logger.info(
        "detecting with %s in %s on %s: %s (weights' SHA-256 %s)",
        info.backend,
        info.precision,
        info.device,
        printable(info.path),
        info.sha256,
    )


def _torch_has_cuda() -> bool:
    if not (_installed("torch") and _installed("torchvision") and _installed("ultralytics")):
        return False
    from perception_batch.detect.torch_import import torch

    return torch.cuda.is_available()


def _onnx_has_cuda(device: str = "auto") -> bool:
    if not _installed("onnxruntime"):
        return False
    from perception_batch.detect.onnx_backend import choose_onnx_device

    return choose_onnx_device(device) is not None


def _openvino_has_bf16() -> bool:
    from perception_batch.detect.openvino_backend import has_bf16

    return has_bf16()


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False
