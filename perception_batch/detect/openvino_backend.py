"""Exported models in OpenVINO, on the CPU.

Images go one by one into asynchronous requests, which the streams of the library take as they become free: so
no core waits for another, and boxes depend neither on the batch size nor on which stream made them.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from perception_batch.config import DetectConfig
from perception_batch.detect import openvino_compiled
from perception_batch.detect.cores import share_cores
from perception_batch.detect.detector import DetectorInfo
from perception_batch.detect.exported import BackendError, ExportedDetector, check_wanted, reason
from perception_batch.detect.facts import ExportedModel
from perception_batch.detect.openvino_graph import Arithmetic, rewrite
from perception_batch.errors import ConfigError, printable

# Images in one call of `detect`. Requests hold one image each, so this only bounds how far they run ahead.
AUTO_BATCH = 8
RunPrecision = Literal["fp32", "bf16", "fp16", "int8"]
_HINTS: dict[RunPrecision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
_ARITHMETIC: dict[RunPrecision, Arithmetic] = {
    "fp32": "float",
    "bf16": "bfloat16",
    "fp16": "float",
    "int8": "int8",
}
_PARTS = {"convert": "openvino.tools.ovc", "opset": "openvino.opset13"}
# By which users keep oneDNN, which OpenVINO computes with, from newer instructions.
_ISA_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


def open_openvino(settings: DetectConfig, model: ExportedModel) -> ExportedDetector:
    """Load an exported model as `settings` say.

    Raises:
        ConfigError: another device than the CPU, or settings that contradict the model.
        ModelError: OpenVINO is not installed, or cannot load the model.
    """
    check_wanted(model, settings)
    if settings.device.startswith("cuda"):
        raise ConfigError(
            f"detect.device is {settings.device}, and OpenVINO runs on the CPU: allowed are auto, cpu"
        )
    streams, threads = share_cores(settings)
    batch = AUTO_BATCH if settings.batch_size == "auto" else settings.batch_size
    precision: RunPrecision = "bf16" if settings.precision == "bf16" else model.facts.precision
    if precision == "bf16" and not has_bf16():
        raise ConfigError(
            "detect.precision bf16 needs a processor with AMX, and this one has none or ONEDNN_MAX_CPU_ISA forbids it: "
            "allowed are auto, fp32, int8"
        )
    identity = " ".join(sorted(model.facts.files.values()))
    network = OpenVinoNetwork(model.file, precision, streams, threads, identity=identity)
    # Callers beyond those whose batches fill the streams twice would only hold memory.
    copies = min(streams, max(2, -(-2 * streams // batch)))
    info = DetectorInfo(
        path=model.file,
        sha256=model.facts.sha256,
        backend="openvino",
        device="cpu",
        precision=precision,
        labels=model.facts.labels,
        stride=model.facts.stride,
        family=model.facts.family,
        task="detect",
        batch_size=batch,
        threads=threads,
        copies=copies,
    )
    return ExportedDetector(network, model.facts, info, settings)


class OpenVinoNetwork:
    """See `exported.Network`. Copies share what is compiled, and have requests of their own."""

    def __init__(
        self,
        path: Path,
        precision: RunPrecision,
        streams: int,
        threads: int,
        compiled: dict[tuple[int, int], Any] | None = None,
        identity: str = "",
    ) -> None:
        """See the class.

        Args:
            path: the model's ``.xml``.
            precision: what it computes in.
            streams: images at once.
            threads: of each.
            compiled: of the network that this is a copy of, by the input's height and width.
            identity: of the model's files; with it what is compiled is kept in the user's cache.
        """
        self._path = path
        self._identity = identity
        self._precision = precision
        self._streams = streams
        self._threads = threads
        self._compiled: dict[tuple[int, int], Any] = {} if compiled is None else compiled
        self._requests: dict[tuple[int, int], list[Any]] = {}
        openvino = import_openvino()
        self._tensor: Any = openvino.Tensor
        self._core: Any = openvino_core()
        if compiled is None and not identity:
            self._read()  # a damaged file is said at once; of one with an identity the hash was looked at

    def prepare(self, input_hw: tuple[int, int]) -> None:
        """Compile for images of this size. Two threads at once would both compile, and one result be kept."""
        if input_hw in self._compiled:
            return
        # The machine's fast 16-bit arithmetic would change boxes unasked. Threads bound to cores wait there for
        # whatever else runs on those: decoding, encoding, other programs.
        config = {
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": _hint(self._precision),
            "NUM_STREAMS": self._streams,
            "INFERENCE_NUM_THREADS": self._streams * self._threads,
            "ENABLE_CPU_PINNING": False,
        }
        try:
            compiled = self._compile(input_hw, config)
        except (RuntimeError, TypeError, ValueError) as error:
            raise BackendError(
                f"{printable(self._path)} cannot take images of {input_hw[1]}x{input_hw[0]} px: {reason(error)}"
            ) from None
        self._compiled.setdefault(input_hw, compiled)

    def outputs(self, images: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.floating[Any]]]:
        """The output of each image, (1, ...)."""
        input_hw = (images.shape[1], images.shape[2])
        self.prepare(input_hw)
        requests = self._requests.get(input_hw)
        if requests is None:
            # One for each stream, and one more whose output is looked at meanwhile.
            compiled = self._compiled[input_hw]
            requests = [compiled.create_infer_request() for _ in range(self._streams + 1)]
            self._requests[input_hw] = requests
        free, running = deque(requests), deque[Any]()
        try:
            for i in range(len(images)):
                request = free.popleft()
                request.set_input_tensor(self._tensor(images[i : i + 1], shared_memory=True))
                request.start_async()
                running.append(request)
                if len(running) == len(requests):
                    yield self._result(running[0])
                    free.append(running.popleft())
            while running:
                yield self._result(running[0])
                running.popleft()
        finally:
            for request in running:  # left behind by an error: they still read `images`
                request.wait()

    def use_part(self, part: int) -> None:
        """Nothing: requests hold one image each."""

    def copy(self) -> OpenVinoNetwork:
        """Another one for another thread."""
        return OpenVinoNetwork(
            self._path, self._precision, self._streams, self._threads, self._compiled, self._identity
        )

    def close(self) -> None:
        """Free the requests; what is compiled goes with the last copy."""
        self._requests = {}
        self._compiled = {}

    @staticmethod
    def _result(request: Any) -> npt.NDArray[np.floating[Any]]:
        request.wait()
        data: npt.NDArray[np.floating[Any]] = request.get_output_tensor().data
        return data

    def _compile(self, input_hw: tuple[int, int], config: dict[str, Any]) -> Any:
        """From the cache, or anew; without an identity always anew."""
        file = None
        if self._identity:
            device = str(self._core.get_property("CPU", "FULL_DEVICE_NAME"))
            version = str(import_openvino().get_version())
            file = openvino_compiled.compiled_file(self._identity, input_hw, config, version, device)
            body = openvino_compiled.load(file)
            if body is not None:
                with suppress(RuntimeError):
                    return self._core.import_model(body, "CPU", config)
        model = self._read()
        rewrite(model, import_openvino("opset"), _ARITHMETIC[self._precision])
        model.reshape([1, *input_hw, 3])
        compiled = self._core.compile_model(model, "CPU", config)
        if file is not None:
            with suppress(RuntimeError):
                openvino_compiled.keep(file, compiled.export_model().getvalue())
        return compiled

    def _read(self) -> Any:
        try:
            return self._core.read_model(self._path)
        except RuntimeError as error:
            raise BackendError(
                f"{printable(self._path)} cannot be read by OpenVINO: {reason(error)}"
            ) from None


def _hint(precision: RunPrecision) -> str:
    """What OpenVINO computes in where nothing is quantised."""
    return "bf16" if precision == "int8" and has_bf16() else _HINTS[precision]


def has_bf16() -> bool:
    """Whether the processor computes in bfloat16 faster than in float: Intel's AMX, not forbidden by the environment."""
    limits = [os.environ.get(name, "").upper() for name in _ISA_LIMITS]
    if not all(limit in ("", "ALL", "DEFAULT") or "AMX" in limit for limit in limits):
        return False
    return "amx_bf16" in openvino_compiled.processor_flags()


@functools.cache
def openvino_core() -> Any:
    """The core of this process, kept until its end.

    On processors with AMX every core brings a signal stack for the calling thread and, when it is freed, puts back
    the one it found: cores freed in another order than last made, first freed leave the thread with a stack that
    is unmapped, and the next signal ends the process with SIGSEGV. One core that is never freed cannot do that.

    Raises:
        ModelError: OpenVINO is not installed.
    """
    return import_openvino().Core()


def import_openvino(part: Literal["", "convert", "opset"] = "") -> Any:
    """The package `openvino`, without its telemetry, which would call home at import.

    Args:
        part: ``convert``: its converter; ``opset``: what graphs are made of.

    Raises:
        ModelError: it is not installed.
    """
    try:
        with without_telemetry(*(() if part == "convert" else ("openvino.tools.ovc",))):
            openvino = importlib.import_module("openvino")
            return importlib.import_module(_PARTS[part]) if part else openvino
    except ImportError as error:
        raise BackendError(
            f"OpenVINO cannot be imported ({printable(error)}): pip install 'perception_batch[cpu]'"
        ) from None


@contextmanager
def without_telemetry(*others: str) -> Iterator[None]:
    """Imports of Intel's telemetry, which calls home, fail inside; so do those of `others`. What is loaded stays."""
    blocked = [name for name in ("openvino_telemetry", *others) if name not in sys.modules]
    sys.modules.update(dict.fromkeys(blocked))  # type: ignore[arg-type]  # None means: not to be had
    try:
        yield
    finally:
        for name in blocked:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)
