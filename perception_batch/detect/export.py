"""Weights to exported models: needs PyTorch and Ultralytics, and is imported only to make one."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from perception_batch.detect import torch_backend
from perception_batch.detect.export_cache import (
    MODEL_STEM,
    cached_folder,
    find_cached,
    may_replace,
    store,
    versions_of,
)
from perception_batch.detect.exported import BackendError, Network, reason
from perception_batch.detect.facts import BackendName, ExportedModel, ModelFacts, Precision
from perception_batch.detect.openvino_backend import OpenVinoNetwork, import_openvino
from perception_batch.detect.torch_import import torch
from perception_batch.detect.weights import sha256_of
from perception_batch.errors import ConfigError, PerceptionBatchError, WriteError, printable

logger = logging.getLogger(__name__)

# Of the ONNX graph. 17 is read by ONNX Runtime since 1.12 and by TensorRT since 8.6.
OPSET = 17
# Scores of an fp32 export may differ so much from PyTorch's on the picture that proves it (measured: 1e-6).
MOST_DIFFERENCE = 1e-3
_MADE_BY: Mapping[BackendName, tuple[str, ...]] = {
    "openvino": ("openvino", "torch", "ultralytics"),
    "onnx": ("torch", "ultralytics"),
    "tensorrt": ("tensorrt", "torch", "ultralytics"),
}


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to make of which weights."""

    weights: Path
    """The .pt file."""
    backend: BackendName
    """Library that shall run it."""
    precision: Precision = "fp32"
    """Of the network; boxes are decoded in fp32 always."""
    image_size: int = 640
    """Long side of the input, px: what RT-DETR and TensorRT are built for; the others take any size."""
    max_detections: int = 300
    """Boxes an image that a head with a fixed number of boxes gives."""
    batch: int = 32
    """TensorRT: images in one call, at most."""


Calibrate = Callable[[ExportedModel, Path], ModelFacts]
"""Makes the INT8 form of an FP32 export in a folder; see `quantize`."""


def export_model(
    request: ExportRequest,
    out: Path | None = None,
    calibrate: Calibrate | None = None,
    *,
    again: bool = False,
) -> ExportedModel:
    """The exported form of `request`, made anew or from the cache.

    Args:
        request: what to make.
        out: folder for its files; none: the cache, where it is used again.
        calibrate: for ``int8``, what turns the fp32 form into it.
        again: make it even if the cache has it.

    Raises:
        ConfigError: a precision that the backend cannot have, or ``int8`` without `calibrate`.
        ModelError: the weights are no detector, a package is missing, or the export fails or gives other boxes.
        WriteError: the folder holds something else, or cannot be written.
    """
    _check(request, calibrate)
    if out is not None and not may_replace(out):
        raise WriteError(
            f"{printable(out)} exists and holds other things than an exported model: name an empty or new folder"
        )
    weights, sha256 = request.weights, sha256_of(request.weights)
    if out is None and not again:
        found = find_cached(weights, sha256, request.backend, request.precision, request.image_size)
        if found is not None:
            return found
    logger.info("exporting %s to %s in %s", printable(weights), request.backend, request.precision)
    if calibrate is not None and request.precision == "int8":
        make, full = calibrate, export_model(replace(request, precision="fp32"))
        facts = replace(full.facts, precision="int8")

        def write(into: Path) -> None:
            _finish(into, make(full, into))

    else:
        facts, network = _load(request, sha256)

        def write(into: Path) -> None:
            _write(request, facts, network, into)

    bound = facts.input_hw or request.backend == "tensorrt"
    shape = str(request.image_size) if bound else "any"
    folder = cached_folder(weights, sha256, request.backend, request.precision, shape)
    return store(folder if out is None else out, write)


def _check(request: ExportRequest, calibrate: Calibrate | None) -> None:
    if request.precision == "int8" and request.backend != "openvino":
        raise ConfigError(f"int8 is made for openvino only, not for {request.backend}: choose fp32 or fp16")
    if request.precision == "int8" and calibrate is None:
        raise ConfigError("int8 needs frames to calibrate on: --calibrate LOG")
    if request.weights.suffix.lower() != ".pt":
        raise ConfigError(f"{printable(request.weights)} is no .pt file: only weights can be exported")


def _write(request: ExportRequest, facts: ModelFacts, network: _Whole, into: Path) -> None:
    """The model and its facts, proven against PyTorch."""
    fixed = facts.input_hw[0] if facts.input_hw else None
    try:
        if request.backend == "openvino":
            _to_openvino(network, fixed, into, request.precision)
        else:
            _to_onnx(network, fixed, into)
            if request.backend == "tensorrt":
                from perception_batch.detect.tensorrt_backend import build_engine

                build_engine(
                    into / f"{MODEL_STEM}.onnx", into / f"{MODEL_STEM}.engine", facts, request.image_size
                )
                (into / f"{MODEL_STEM}.onnx").unlink()
    except PerceptionBatchError:
        raise
    except Exception as error:  # torch and the converters raise whatever their graphs run into
        raise BackendError(
            f"{printable(request.weights)} cannot be exported to {request.backend}: {reason(error)}; "
            "use detect.backend=torch"
        ) from error
    _finish(into, facts)
    if request.precision == "fp32" and request.backend != "tensorrt":
        _prove(network, facts, into)


def _finish(into: Path, facts: ModelFacts) -> None:
    """Write the facts beside the model's files, with their hashes."""
    files = {path.name: sha256_of(path) for path in sorted(into.iterdir()) if path.suffix != ".json"}
    (into / f"{MODEL_STEM}.json").write_text(replace(facts, files=files).to_json(), encoding="utf-8")


class _Whole(torch.nn.Module):
    """A network with what comes before it: (N, H, W, 3) bytes to its output, so that no user of it can scale wrongly."""

    def __init__(self, network: torch.nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        output = self.network(images.permute(0, 3, 1, 2).to(self.dtype).div(255))
        first: torch.Tensor = output[0] if isinstance(output, (tuple, list)) else output
        return first.float()


def _load(request: ExportRequest, sha256: str) -> tuple[ModelFacts, _Whole]:
    """The network to trace, and what it is."""
    model, head, form = torch_backend.load_network(request.weights)
    stride = torch_backend.stride_of(model)
    fixed: tuple[tuple[int, int], ...] = ()
    head.export = True
    head.format = "onnx" if request.backend == "tensorrt" else request.backend
    if form == "queries":
        # Its anchors are computed for one size.
        side = -(-request.image_size // stride) * stride
        fixed = ((side, side),)
        head.max_det = request.max_detections
    else:
        head.dynamic = True
    half = request.precision == "fp16" and request.backend != "openvino"
    if form == "end2end":
        # The choice of the best boxes is ours: the graph's own depends on the number of anchors, and is slow.
        head.postprocess = lambda output: output.permute(0, 2, 1)
    network = torch_backend.optimize(model, head, form, torch.device("cpu"), "fp16" if half else "fp32")
    facts = ModelFacts(
        backend=request.backend,
        precision=request.precision,
        form="one2one" if form == "end2end" else form,
        family="stretch" if form == "queries" else "letterbox",
        stride=stride,
        labels=torch_backend.labels_of(model, request.weights),
        weights=request.weights.name,
        sha256=sha256,
        input_hw=fixed,
        batch=request.batch if request.backend == "tensorrt" else 0,
        max_detections=min(request.max_detections, head.num_queries) if form == "queries" else 0,
        versions=versions_of(*_MADE_BY[request.backend]),
    )
    return facts, _Whole(network, torch.float16 if half else torch.float32).eval()


def _example(fixed: tuple[int, int] | None) -> torch.Tensor:
    height, width = fixed or (192, 320)
    return torch.from_numpy(_picture(height, width)[None].repeat(2, 0))


def _to_openvino(network: _Whole, fixed: tuple[int, int] | None, into: Path, precision: Precision) -> None:
    ovc, openvino = import_openvino("convert"), import_openvino()
    example = _example(fixed)
    height, width = fixed or (-1, -1)
    with _quiet(), torch.inference_mode():
        traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
    with _quiet():
        model = ovc.convert_model(
            traced, example_input=example, input=[openvino.PartialShape([-1, height, width, 3])]
        )
        openvino.save_model(model, into / f"{MODEL_STEM}.xml", compress_to_fp16=precision == "fp16")


def _to_onnx(network: _Whole, fixed: tuple[int, int] | None, into: Path) -> None:
    sizes = {} if fixed else {1: "height", 2: "width"}
    with _quiet(), torch.inference_mode():
        torch.onnx.export(
            network,
            (_example(fixed),),
            str(into / f"{MODEL_STEM}.onnx"),
            dynamo=False,  # the other exporter needs one package more and fixes sizes that must stay free
            opset_version=OPSET,
            input_names=["images"],
            output_names=["output"],
            dynamic_axes={
                "images": {0: "batch", **sizes},
                "output": {0: "batch", **({} if fixed else {2: "anchors"})},
            },
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Tracing warns of every shape that it keeps, and of its own age."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _picture(height: int, width: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) of smooth colours: something to see, the same everywhere."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [np.sin(x / a + c) * np.cos(y / b) for a, b, c in ((7, 11, 0), (23, 17, 1), (41, 29, 2))]
    picture: npt.NDArray[np.uint8] = np.clip(127 + 127 * np.stack(waves, -1), 0, 255).astype(np.uint8)
    return picture


def _prove(network: _Whole, facts: ModelFacts, into: Path) -> None:
    """Refuse an export whose scores are not PyTorch's.

    Raises:
        ModelError: by how much they differ.
    """
    runs: Network
    if facts.backend == "openvino":
        runs = OpenVinoNetwork(into / f"{MODEL_STEM}.xml", facts.precision, 1, 1)
    else:
        from perception_batch.detect.onnx_backend import OnnxNetwork

        runs = OnnxNetwork(into / f"{MODEL_STEM}.onnx", "cpu", 1)
    sizes: Sequence[tuple[int, int]] = facts.input_hw or ((192, 320), (256, 192))
    for hw in sizes:
        images = _picture(*hw)[None]
        with torch.inference_mode():
            wanted = network(torch.from_numpy(images)).numpy()
        try:
            (got,) = [output.copy() for output in runs.outputs(images)]
        except RuntimeError as error:
            raise BackendError(f"the export to {facts.backend} does not run: {reason(error)}") from error
        worst = float("inf")
        if got.shape == wanted.shape:
            part = np.s_[:, :, 4] if facts.form == "queries" else np.s_[:, 4:]
            worst = float(np.abs(got[part] - wanted[part]).max())
        if not worst <= MOST_DIFFERENCE:
            raise BackendError(
                f"the export to {facts.backend} gives other scores than PyTorch (by {worst:.2g} at {hw[1]}x{hw[0]} px): "
                "use detect.backend=torch"
            )
    runs.close()
