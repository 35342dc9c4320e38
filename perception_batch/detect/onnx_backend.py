"""Exported models in ONNX Runtime, on the CPU or one CUDA device."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception_batch.config import DetectConfig
from perception_batch.detect.cores import share_cores
from perception_batch.detect.cuda import choose_cuda
from perception_batch.detect.detector import DetectorInfo
from perception_batch.detect.exported import BackendError, ExportedDetector, check_wanted, reason
from perception_batch.detect.facts import ExportedModel
from perception_batch.errors import ConfigError, ModelError, printable

logger = logging.getLogger(__name__)

AUTO_BATCH_CPU = 8
AUTO_BATCH_CUDA = 32
_CUDA_PROVIDER = "CUDAExecutionProvider"


def open_onnx(settings: DetectConfig, model: ExportedModel) -> ExportedDetector:
    """Load an exported model as `settings` say.

    Raises:
        ConfigError: settings that contradict the model or the machine.
        ModelError: ONNX Runtime is not installed, has no CUDA where that is asked for, or cannot load the model.
    """
    check_wanted(model, settings)
    index = choose_onnx_device(settings.device)
    facts = model.facts
    if index is None and facts.precision == "fp16":
        raise ConfigError(
            f"{printable(model.file)} is in fp16, which needs a CUDA device, and the device is cpu"
        )
    device = "cpu" if index is None else f"cuda:{index}"
    copies, threads = share_cores(settings) if index is None else (1, 0)
    batch = settings.batch_size
    if batch == "auto":
        batch = AUTO_BATCH_CPU if index is None else AUTO_BATCH_CUDA
    info = DetectorInfo(
        path=model.file,
        sha256=facts.sha256,
        backend="onnx",
        device=device,
        precision=facts.precision,
        labels=facts.labels,
        stride=facts.stride,
        family=facts.family,
        task="detect",
        batch_size=batch,
        threads=threads,
        copies=copies,
    )
    network = OnnxNetwork(model.file, device, threads, 1 if index is None else batch)
    return ExportedDetector(network, facts, info, settings)


def choose_onnx_device(wanted: str) -> int | None:
    """Number of the CUDA device that ONNX Runtime shall use; None is the CPU.

    Raises:
        ModelError: ONNX Runtime is not installed, there is no such device, or it was asked for and this runtime has
            no CUDA.
    """
    can_cuda = _CUDA_PROVIDER in import_onnxruntime().get_available_providers()
    if wanted == "auto" and not can_cuda:
        return None
    index = choose_cuda(wanted)
    if index is not None and not can_cuda:
        raise ModelError(
            f"detect.device is {wanted}, and this ONNX Runtime runs on the CPU alone: pip install onnxruntime-gpu "
            "in the place of onnxruntime, or choose detect.device=cpu"
        )
    return index


class OnnxNetwork:
    """See `exported.Network`."""

    def __init__(self, path: Path, device: str, threads: int, part: int = 1, session: Any = None) -> None:
        self._path = path
        self._device = device
        self._threads = threads
        self._part = part
        self._session: Any = session or self._open()

    def prepare(self, input_hw: tuple[int, int]) -> None:
        """Nothing: sizes are free."""

    def outputs(self, images: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.floating[Any]]]:
        """The outputs of so many images at a time as the device is best used with, the last ones padded.

        On a CPU that is one: more fall out of its caches.
        """
        for start in range(0, len(images), self._part):
            part = images[start : start + self._part]
            missing = self._part - len(part)
            if missing:
                part = np.concatenate([part, np.repeat(part[-1:], missing, 0)])
            try:
                (output,) = self._session.run(["output"], {"images": part})
            except Exception as error:  # it raises classes of its own that have no common parent but this
                raise RuntimeError(reason(error)) from error
            yield output[: self._part - missing]

    def use_part(self, part: int) -> None:
        """Images in one call from now on, on CUDA; see `outputs`."""
        self._part = part if self._device != "cpu" else 1

    def copy(self) -> OnnxNetwork:
        """Another one for another thread. With one thread each they share a session, and run in their callers'."""
        shared = self._session if self._threads == 1 else None
        return OnnxNetwork(self._path, self._device, self._threads, self._part, shared)

    def close(self) -> None:
        """Free the session."""
        self._session = None

    def _open(self) -> Any:
        runtime = import_onnxruntime()
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.inter_op_num_threads = 1
        providers: list[Any] = ["CPUExecutionProvider"]
        if self._device == "cpu":
            options.intra_op_num_threads = self._threads
            # A thread that waits for the next image burns the core that decodes it.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        else:
            # Without these, fp32 would be TF32 on Ampere and later, and algorithms picked by a race.
            cuda = {"device_id": self._device[5:], "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
            providers.insert(0, (_CUDA_PROVIDER, cuda))
        try:
            session = runtime.InferenceSession(str(self._path), options, providers=providers)
        except Exception as error:  # as above
            raise BackendError(
                f"{printable(self._path)} cannot be read by ONNX Runtime: {reason(error)}"
            ) from None
        if self._device != "cpu" and _CUDA_PROVIDER not in session.get_providers():
            raise ModelError(
                f"ONNX Runtime could not use {self._device}: its CUDA and cuDNN libraries are missing or of another "
                "version; choose detect.device=cpu or another detect.backend"
            )
        return session


def import_onnxruntime() -> Any:
    """The package `onnxruntime`.

    Raises:
        ModelError: it is not installed.
    """
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise BackendError(
            f"ONNX Runtime cannot be imported ({printable(error)}): pip install 'perception_batch[onnx]'"
        ) from None
