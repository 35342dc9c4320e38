"""Ultralytics detection models (.pt) in PyTorch, on the CPU or one CUDA device."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from perception_batch.config import DetectConfig
from perception_batch.detect.cores import share_cores
from perception_batch.detect.detector import DetectorInfo
from perception_batch.detect.detector_input import check_batch, fit_view
from perception_batch.detect.postprocess import OutputForm, to_detections
from perception_batch.detect.preprocess import BAR_VALUE
from perception_batch.detect.torch_import import torch
from perception_batch.detect.torch_postprocess import select
from perception_batch.detect.ultralytics_import import load_checkpoint
from perception_batch.detect.weights import pinned_sha256
from perception_batch.errors import ConfigError, ModelError, printable
from perception_batch.geometry import DetectorView
from perception_batch.types import Detections

logger = logging.getLogger(__name__)

# What `batch_size: auto` means until a benchmark of the machine says better: on CPUs more than 8 images fall
# out of the caches, on CUDA 32 images fill the device for all but the largest models.
AUTO_BATCH_CPU = 8
AUTO_BATCH_CUDA = 32
# A CPU works a batch in parts of this many images: more fall out of the caches and need more memory, and parts
# of one shape give the same bits whatever the batch size.
CPU_PART = 4
# Input shapes (cameras, and crops of `detect.tiles`) whose buffers are kept.
_MOST_SHAPES = 8


class TorchDetector:
    """A detector that owns its device. See the protocol `Detector`."""

    def __init__(
        self,
        network: torch.nn.Module,
        form: OutputForm,
        info: DetectorInfo,
        settings: DetectConfig,
    ) -> None:
        self._network: torch.nn.Module | None = network
        self._form = form
        self._info = info
        self._settings = settings
        self._device = torch.device(info.device)
        self._dtype = torch.float16 if info.precision == "fp16" else torch.float32
        self._chunk = self._part_of(info.batch_size)
        self._staging: dict[tuple[int, ...], torch.Tensor] = {}
        self._until_close = contextlib.ExitStack()
        self._is_exact = False

    @classmethod
    def open(cls, settings: DetectConfig, path: Path) -> TorchDetector:
        """Load `path` as `settings` say.

        Raises:
            ConfigError: fp16 without CUDA.
            ModelError: no such device, another SHA-256 than pinned, or not an Ultralytics detection model.
        """
        device = choose_device(settings.device)
        precision = choose_precision(settings.precision, device)
        sha256 = pinned_sha256(settings, path)
        model, head, form = load_network(path)
        on_cpu = device.type == "cpu"
        copies, threads = share_cores(settings)
        batch_size = settings.batch_size
        if batch_size == "auto":
            batch_size = AUTO_BATCH_CPU if on_cpu else AUTO_BATCH_CUDA
        info = DetectorInfo(
            path=path,
            sha256=sha256,
            backend="torch",
            device=str(device),
            precision=precision,
            labels=labels_of(model, path),
            stride=stride_of(model),
            family="stretch" if form == "queries" else "letterbox",
            task="detect",
            batch_size=batch_size,
            threads=threads if on_cpu else 0,
            copies=copies if on_cpu else 1,
        )
        if form == "end2end":
            head.max_det = settings.max_detections
        network = optimize(model, head, form, device, precision)
        return cls(network, form, info, settings)

    @property
    def info(self) -> DetectorInfo:
        """What was loaded."""
        return self._info

    def view(
        self,
        image_hw: tuple[int, int],
        *,
        image_size: int | None = None,
        roi_px: tuple[int, int, int, int] | None = None,
        rotate_deg: int = 0,
    ) -> DetectorView:
        """How images of one size become this detector's input; see `Detector`."""
        return fit_view(
            image_hw,
            image_size=image_size or self._settings.image_size,
            stride=self._info.stride,
            family=self._info.family,
            roi_px=roi_px,
            rotate_deg=rotate_deg,
        )

    def detect(
        self,
        images: npt.NDArray[np.uint8],
        views: Sequence[DetectorView],
        keep_score: Sequence[float],
    ) -> list[Detections]:
        """Boxes of prepared images; see `Detector`. Out of CUDA memory, the batch is halved for good."""
        n = len(images)
        input_hw = check_batch(images, views, keep_score, self._info.batch_size)
        rows: list[npt.NDArray[np.float32]] = []
        while len(rows) < n:
            part = slice(len(rows), len(rows) + self._chunk)
            found = self._attempt(images[part], keep_score[part])
            if found is None:
                self._halve(input_hw)
            else:
                rows.extend(found)
        return [to_detections(row, view) for row, view in zip(rows, views, strict=True)]

    def use_batch_size(self, batch_size: int) -> None:
        """Take at most so many images at a time from now on; see `Detector`."""
        if batch_size < 1:
            raise ValueError(f"a batch holds at least 1 image, got {batch_size}")
        self._info = replace(self._info, batch_size=batch_size)
        self._chunk = self._part_of(batch_size)
        self._staging.clear()

    def _part_of(self, batch_size: int) -> int:
        """Images that go through the network at a time."""
        return batch_size if self._device.type != "cpu" else min(batch_size, CPU_PART)

    def copy(self) -> TorchDetector:
        """The same network once more, for another thread; see `Detector`."""
        if self._network is None:
            raise ValueError("the detector is closed")
        return TorchDetector(deepcopy(self._network), self._form, self._info, self._settings)

    def close(self) -> None:
        """Free the device; the detector cannot be used after."""
        self._network = None
        self._staging.clear()
        self._until_close.close()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _attempt(
        self, images: npt.NDArray[np.uint8], keep_score: Sequence[float]
    ) -> list[npt.NDArray[np.float32]] | None:
        """Boxes in input px of at most `_chunk` images; None where the device has too little memory."""
        try:
            with torch.inference_mode(), self._exact():
                output = self._forward(images)
                return select(
                    output,
                    self._form,
                    keep_score,
                    input_hw=(images.shape[1], images.shape[2]),
                    iou=self._settings.iou,
                    max_detections=self._settings.max_detections,
                )
        except torch.cuda.OutOfMemoryError:
            # Nothing else here: the traceback, and with it the memory, lives until this block ends.
            return None
        except RuntimeError as error:
            reason = printable(
                str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            )
            raise ModelError(
                f"{printable(self._info.path)} failed on {self._info.device} with images of "
                f"{images.shape[2]}x{images.shape[1]} px: {reason[:300]}"
            ) from error

    def _forward(self, images: npt.NDArray[np.uint8]) -> torch.Tensor:
        """The network's output for images padded to `_chunk`: every batch has one shape, whatever its fill."""
        if self._network is None:
            raise ValueError("the detector is closed")
        shape = (self._chunk, *images.shape[1:])
        staging = self._staging.get(shape)
        if staging is None:
            # Pinned, so that the copy to the device runs beside the host. One buffer a shape is enough: `select`
            # waits for the device before the next batch is written into it.
            staging = torch.full(shape, BAR_VALUE, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
            if len(self._staging) >= _MOST_SHAPES:
                self._staging.clear()
            self._staging[shape] = staging
        staging.numpy()[: len(images)] = images
        # NHWC bytes seen as NCHW are channels-last already: no copy turns them round.
        batch = staging.to(self._device, non_blocking=True).permute(0, 3, 1, 2)
        output: Any = self._network(batch.to(self._dtype).div_(255))
        if isinstance(output, (tuple, list)):
            output = output[0]
        return output  # type: ignore[no-any-return]  # `select` checks what it is

    @contextlib.contextmanager
    def _exact(self) -> Iterator[None]:
        """Settings of the process that decide over the last bits: of a CPU for the time of one batch.

        Those of CUDA stay until `close`: a batch on another device, in another thread, needs them at the same time.
        """
        if self._device.type == "cpu":
            before = torch.get_num_threads()
            if before == self._info.threads:
                yield
                return
            torch.set_num_threads(self._info.threads)
            try:
                yield
            finally:
                torch.set_num_threads(before)
            return
        with torch.cuda.device(self._device):
            if not self._is_exact:
                matmul = torch.backends.cuda.matmul
                self._until_close.callback(setattr, matmul, "allow_tf32", matmul.allow_tf32)
                matmul.allow_tf32 = False
                self._until_close.enter_context(
                    torch.backends.cudnn.flags(
                        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
                    )
                )
                self._is_exact = True
            yield

    def _halve(self, input_hw: tuple[int, int]) -> None:
        """After an out-of-memory error: half the images at a time from now on."""
        self._staging.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if self._chunk == 1:
            raise ModelError(
                f"{self._info.device} has too little memory for a single image of {input_hw[1]}x{input_hw[0]} px: "
                "choose a smaller detect.image_size or model, or detect.device=cpu"
            )
        self._chunk = max(1, self._chunk // 2)
        logger.warning(
            "%s is out of memory: going on with %d images at a time (detect.batch_size)",
            self._info.device,
            self._chunk,
        )


def choose_device(wanted: str) -> torch.device:
    """The device that `detect.device` names; ``auto`` is the first CUDA device, the CPU where there is none.

    Raises:
        ModelError: there is no such device; says which there are.
    """
    count = torch.cuda.device_count() if wanted != "cpu" and torch.cuda.is_available() else 0
    if wanted == "cpu" or (wanted == "auto" and count == 0):
        return torch.device("cpu")
    index = int(wanted.partition(":")[2] or 0)
    if index >= count:
        have = ", ".join(["cpu", *(f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(count))])
        raise ModelError(f"detect.device {printable(wanted)} is not there; this machine has: {have}")
    return torch.device("cuda", index)


def choose_precision(
    wanted: Literal["auto", "fp32", "bf16", "fp16", "int8"], device: torch.device
) -> Literal["fp32", "fp16"]:
    """``auto`` is fp16 on CUDA, fp32 elsewhere.

    Raises:
        ConfigError: fp16 was asked for on a CPU, or int8.
    """
    if wanted in ("int8", "bf16"):
        raise ConfigError(
            f"detect.precision {wanted} is a matter of exported models, not of the torch backend: allowed there are auto, "
            "fp32, fp16"
        )
    if device.type == "cuda":
        return "fp32" if wanted == "fp32" else "fp16"
    if wanted == "fp16":
        raise ConfigError(
            "detect.precision fp16 needs a CUDA device, and the device is cpu: allowed are auto, fp32"
        )
    return "fp32"


def optimize(
    model: Any,
    head: Any,
    form: OutputForm,
    device: torch.device,
    precision: Literal["fp32", "fp16"],
) -> torch.nn.Module:
    """The network on its device, channels-last, in its precision; boxes come out of it in fp32 always.

    In fp16 a coordinate of 600 px is known to half a pixel only, so the last step, from the head's raw values
    to boxes, stays in fp32: RT-DETR's whole decoder, of the other heads the anchors' arithmetic.
    """
    network: torch.nn.Module = model.requires_grad_(False).to(
        device=device, memory_format=torch.channels_last
    )
    if precision == "fp32":
        return network
    network.half()
    if form == "queries":
        head.float()
        head.register_forward_pre_hook(lambda _, args: ([feature.float() for feature in args[0]], *args[1:]))
        return network
    head.dfl.float()
    decode = head._inference

    def decode_in_fp32(raw: Mapping[str, Any]) -> Any:
        # `feats` gives the anchors' grid alone: multiples of a half, exact in fp16.
        return decode({**raw, "boxes": raw["boxes"].float(), "scores": raw["scores"].float()})

    head._inference = decode_in_fp32
    return network


def load_network(path: Path) -> tuple[Any, Any, OutputForm]:
    """An Ultralytics detection model on the CPU, fused, its last layer, and what that gives.

    Raises:
        ModelError: not an Ultralytics detection model.
    """
    model = _load(path)
    head, form = _read_head(model, path)
    return model, head, form


def stride_of(model: Any) -> int:
    """Height and width of a network's input are multiples of this, px."""
    return max(32, round(float(torch.as_tensor(model.stride).max())))


def _load(path: Path) -> Any:
    try:
        return load_checkpoint(path)
    except ModelError:
        raise
    except Exception as error:
        reason = printable(" ".join(str(error).split()))[:300] or type(error).__name__
        raise ModelError(
            f"{printable(path)} cannot be loaded as Ultralytics weights (YOLOv8, 11, 26, RT-DETR .pt): {reason}. "
            "Weights with code of their own load only with ULTRALYTICS_SAFE_LOAD=0 in the environment: then they can "
            "run anything"
        ) from None


def _read_head(model: Any, path: Path) -> tuple[Any, OutputForm]:
    """The last layer, and what it gives.

    Raises:
        ModelError: the model is no detector.
    """
    from ultralytics.nn.modules import head as heads

    task = str(getattr(model, "task", "unknown"))
    layers = getattr(model, "model", None)
    head = layers[-1] if isinstance(layers, torch.nn.Sequential) and len(layers) else None
    if task == "detect" and isinstance(head, heads.RTDETRDecoder):
        return head, "queries"
    other = (heads.Segment, heads.Pose, heads.OBB)
    if task == "detect" and isinstance(head, heads.Detect) and not isinstance(head, other):
        return head, "end2end" if getattr(head, "end2end", False) else "dense"
    raise ModelError(
        f"{printable(path)} is a model for the task {printable(task)!r} (its last layer is {type(head).__name__}); "
        "only detection models can be used here, such as yolo11n.pt"
    )


def labels_of(model: Any, path: Path) -> dict[int, str]:
    """A network's own class names by class number.

    Raises:
        ModelError: it has none.
    """
    names = getattr(model, "names", None)
    if isinstance(names, (list, tuple)):
        names = dict(enumerate(names))
    if not isinstance(names, Mapping) or not names or len(names) > np.iinfo(np.int16).max:
        raise ModelError(f"{printable(path)} does not name its classes")
    return {int(number): str(name) for number, name in names.items()}
