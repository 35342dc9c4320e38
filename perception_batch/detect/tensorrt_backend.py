"""TensorRT engines, on one CUDA device. An engine runs only on the kind of device and version that built it."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception_batch.config import DetectConfig
from perception_batch.detect.cuda import choose_cuda
from perception_batch.detect.detector import DetectorInfo
from perception_batch.detect.exported import ExportedDetector, check_wanted
from perception_batch.detect.facts import ExportedModel, ModelFacts
from perception_batch.errors import ConfigError, ModelError, printable

logger = logging.getLogger(__name__)

_INPUT, _OUTPUT = "images", "output"
# The least input height and width that engines are built for, px.
_LEAST_PX = 64


def open_tensorrt(settings: DetectConfig, model: ExportedModel) -> ExportedDetector:
    """Load an engine as `settings` say.

    Raises:
        ConfigError: settings that contradict the engine or the machine.
        ModelError: TensorRT or CUDA is missing, or the engine was built elsewhere.
    """
    check_wanted(model, settings)
    index = choose_cuda(settings.device)
    if index is None:
        raise ConfigError(
            f"{printable(model.file)} is a TensorRT engine, which needs a CUDA device, and the device is cpu"
        )
    facts = model.facts
    batch = facts.batch if settings.batch_size == "auto" else settings.batch_size
    if batch > facts.batch:
        raise ConfigError(
            f"{printable(model.file)} takes at most {facts.batch} images at a time, and detect.batch_size asks for "
            f"{batch}: choose at most {facts.batch}, or export with --batch-size {batch}"
        )
    info = DetectorInfo(
        path=model.file,
        sha256=facts.sha256,
        backend="tensorrt",
        device=f"cuda:{index}",
        precision=facts.precision,
        labels=facts.labels,
        stride=facts.stride,
        family=facts.family,
        task="detect",
        batch_size=batch,
        threads=0,
    )
    return ExportedDetector(TensorRtNetwork(model.file, index, batch), facts, info, settings)


def build_engine(onnx: Path, engine: Path, facts: ModelFacts, image_size: int) -> None:
    """Write the engine of an ONNX graph, for 1 to `facts.batch` images and sizes up to the long side.

    The graph's own types are kept: fp16 is in it where it was asked for, and boxes are decoded in fp32.

    Raises:
        ModelError: TensorRT or a CUDA device is missing, or the graph cannot be built.
    """
    trt = _import("tensorrt")
    runtime = _Cuda(0)
    builder = trt.Builder(_quiet_logger(trt))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, _quiet_logger(trt))
    if not parser.parse_from_file(str(onnx)):
        why = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ModelError(f"TensorRT cannot read the graph: {printable(why)[:300]}")
    if facts.input_hw:
        least = usual = most = facts.input_hw[0]
    else:
        side = -(-image_size // facts.stride) * facts.stride
        least, most = (_LEAST_PX, _LEAST_PX), (side, side)
        # Cameras are mostly 16:9 to 3:2.
        usual = (-(-side * 9 // 16 // facts.stride) * facts.stride, side)
    profile = builder.create_optimization_profile()
    profile.set_shape(_INPUT, (1, *least, 3), (facts.batch, *usual, 3), (facts.batch, *most, 3))
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    config.clear_flag(trt.BuilderFlag.TF32)
    built = builder.build_serialized_network(network, config)
    runtime.close()
    if built is None:
        raise ModelError("TensorRT could not build an engine; its own messages say why (--verbose)")
    engine.write_bytes(bytes(built))


class TensorRtNetwork:
    """See `exported.Network`. Buffers on the device grow to the largest batch seen, and stay."""

    def __init__(self, path: Path, device: int, part: int) -> None:
        trt = _import("tensorrt")
        self._path = path
        self._device = device
        self._part = part
        self._cuda = _Cuda(device)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{printable(path)}: cannot be read: {error.strerror}") from None
        self._runtime: Any = trt.Runtime(_quiet_logger(trt))
        self._engine: Any = self._runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise ModelError(
                f"{printable(path)} does not load here: engines run only on the kind of device and the version of "
                f"TensorRT (here {trt.__version__}) that built them; export the weights again on this machine"
            )
        self._context: Any = self._engine.create_execution_context()
        self._dtype: npt.DTypeLike = trt.nptype(self._engine.get_tensor_dtype(_OUTPUT))

    def prepare(self, input_hw: tuple[int, int]) -> None:
        """Refuse sizes that the engine was not built for.

        Raises:
            ConfigError: says what it takes.
        """
        least, _, most = (tuple(shape) for shape in self._engine.get_tensor_profile_shape(_INPUT, 0))
        if not all(least[i + 1] <= input_hw[i] <= most[i + 1] for i in (0, 1)):
            raise ConfigError(
                f"{printable(self._path)} takes inputs of {least[1]}x{least[2]} to {most[1]}x{most[2]} px (height x "
                f"width), and {input_hw[0]}x{input_hw[1]} is asked for: export with another --image-size"
            )

    def outputs(self, images: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.floating[Any]]]:
        """The outputs of a full batch at a time; the last one is padded, so that every batch has one shape."""
        for start in range(0, len(images), self._part):
            part = images[start : start + self._part]
            count = len(part)
            if count < self._part:
                part = np.concatenate([part, np.repeat(part[-1:], self._part - count, 0)])
            yield self._run(np.ascontiguousarray(part))[:count]

    def use_part(self, part: int) -> None:
        """Images in one call from now on."""
        self._part = part

    def copy(self) -> TensorRtNetwork:
        """Another one for another thread."""
        return TensorRtNetwork(self._path, self._device, self._part)

    def close(self) -> None:
        """Free the device's memory."""
        self._context = self._engine = self._runtime = None
        self._cuda.close()

    def _run(self, part: npt.NDArray[np.uint8]) -> npt.NDArray[np.floating[Any]]:
        if not self._context.set_input_shape(_INPUT, part.shape):
            raise RuntimeError(f"the engine refuses {part.shape}")
        output = np.empty(tuple(self._context.get_tensor_shape(_OUTPUT)), self._dtype)
        cuda = self._cuda
        cuda.use()
        self._context.set_tensor_address(_INPUT, cuda.buffer(_INPUT, part.nbytes))
        self._context.set_tensor_address(_OUTPUT, cuda.buffer(_OUTPUT, output.nbytes))
        cuda.copy_in(_INPUT, part)
        if not self._context.execute_async_v3(cuda.stream):
            raise RuntimeError("the engine failed")
        cuda.copy_out(_OUTPUT, output)
        return output


class _Cuda:
    """A stream and named buffers of one device, by NVIDIA's own bindings: PyTorch is not needed."""

    def __init__(self, device: int) -> None:
        self._api: Any = _import("cuda.bindings.runtime")
        self._device = device
        self._buffers: dict[str, tuple[int, int]] = {}
        self.use()
        (stream,) = self._call(self._api.cudaStreamCreate())
        self._handle = stream
        self.stream = int(stream)

    def use(self) -> None:
        """Make the device that of the calling thread."""
        self._call(self._api.cudaSetDevice(self._device))

    def buffer(self, name: str, size: int) -> int:
        """Address of at least `size` bytes on the device."""
        address, have = self._buffers.get(name, (0, 0))
        if have < size:
            if address:
                self._call(self._api.cudaFree(address))
            (found,) = self._call(self._api.cudaMalloc(size))
            address = int(found)
            self._buffers[name] = (address, size)
        return address

    def copy_in(self, name: str, array: npt.NDArray[Any]) -> None:
        """Host to device."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(
            self._api.cudaMemcpyAsync(
                self._buffers[name][0], array.ctypes.data, array.nbytes, kind, self._handle
            )
        )

    def copy_out(self, name: str, array: npt.NDArray[Any]) -> None:
        """Device to host, after all that is queued; waits for it."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(
            self._api.cudaMemcpyAsync(
                array.ctypes.data, self._buffers[name][0], array.nbytes, kind, self._handle
            )
        )
        self._call(self._api.cudaStreamSynchronize(self._handle))

    def close(self) -> None:
        """Free everything."""
        for address, _ in self._buffers.values():
            self._call(self._api.cudaFree(address))
        self._buffers = {}
        if self._handle is not None:
            self._call(self._api.cudaStreamDestroy(self._handle))
            self._handle = None

    def _call(self, answer: Any) -> tuple[Any, ...]:
        error, *values = answer if isinstance(answer, tuple) else (answer,)
        if int(error) != 0:
            name = getattr(error, "name", str(error))
            if name == "cudaErrorMemoryAllocation":
                raise ModelError(
                    f"cuda:{self._device} has too little memory: choose a smaller detect.batch_size or "
                    "detect.image_size"
                )
            raise RuntimeError(f"CUDA: {name}")
        return tuple(values)


def _quiet_logger(trt: Any) -> Any:
    return trt.Logger(trt.Logger.INFO if logger.isEnabledFor(logging.INFO) else trt.Logger.ERROR)


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(
            f"TensorRT engines need the packages tensorrt and cuda-python ({printable(error)}): pip install "
            "'perception_batch[tensorrt]'"
        ) from None
