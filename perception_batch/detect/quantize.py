"""INT8 forms of OpenVINO models, calibrated on a user's own frames; says what they lose against FP32."""

from __future__ import annotations

import importlib
import io
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from perception_batch.detect import postprocess
from perception_batch.detect.cores import usable_cores
from perception_batch.detect.export_cache import INT8_RECIPE, MODEL_STEM, versions_of
from perception_batch.detect.exported import reason
from perception_batch.detect.facts import ExportedModel, ModelFacts
from perception_batch.detect.openvino_backend import (
    OpenVinoNetwork,
    import_openvino,
    openvino_core,
    without_telemetry,
)
from perception_batch.errors import ModelError, printable
from perception_batch.geometry import box_iou

logger = logging.getLogger(__name__)

# NNCF's own default: more frames change the ranges no more.
MOST_FRAMES = 300
MOST_BYTES = 512 << 20
# Fewer say little of what the cameras see.
FEW_FRAMES = 32
_SCORE = 0.25
_LAYER = re.compile(r"__module\.network\.model\.(\d+)")
_IOU = 0.5


def take_frames(
    frames: Iterable[npt.NDArray[np.uint8]], most: int = MOST_FRAMES
) -> list[npt.NDArray[np.uint8]]:
    """The frames to calibrate on, as many as a bounded memory holds.

    Args:
        frames: prepared images, (H, W, 3) RGB each, as `prepare` makes them.
        most: not more than these.

    Raises:
        ModelError: there is none.
    """
    taken: list[npt.NDArray[np.uint8]] = []
    held = 0
    for frame in frames:
        taken.append(frame)
        held += frame.nbytes
        if len(taken) >= most or held >= MOST_BYTES:
            break
    if not taken:
        raise ModelError("no frame to calibrate on: the log holds no picture that can be decoded")
    if len(taken) < FEW_FRAMES:
        logger.warning(
            "only %d frames to calibrate on: %d or more say more of what is seen", len(taken), FEW_FRAMES
        )
    return taken


def quantize(
    full: ExportedModel, into: Path, frames: Sequence[npt.NDArray[np.uint8]], source: str
) -> ModelFacts:
    """Write the INT8 form of an FP32 model into a folder.

    The end of the head stays in float: quantised, coordinates and scores would share one scale, which costs several
    points of AP50. Activations are quantised around zero: with another zero point convolutions that pad compute what it
    adds at the borders, a tenth of the time on processors with AMX, for 0.3 points of AP50 (docs/detect.md).

    Args:
        full: the FP32 export.
        into: existing folder.
        frames: (H, W, 3) RGB each, as `prepare` makes them.
        source: what they are from, for the record.

    Raises:
        ModelError: NNCF is not installed or fails.
    """
    openvino = import_openvino()
    nncf = _import_nncf()
    try:
        with _hushed():
            model = openvino_core().read_model(full.file)
            dataset = nncf.Dataset([frame[None] for frame in frames])
            small = nncf.quantize(
                model,
                dataset,
                preset=nncf.QuantizationPreset.PERFORMANCE,
                subset_size=len(frames),
                ignored_scope=nncf.IgnoredScope(names=ignored_names(model, full.facts.form), validate=False),
            )
            openvino.save_model(small, into / f"{MODEL_STEM}.xml", compress_to_fp16=False)
    except Exception as error:  # it raises whatever its graphs run into
        raise ModelError(f"{printable(full.file)} cannot be brought to int8: {reason(error)}") from error
    lost = _compare(full, into / f"{MODEL_STEM}.xml", frames)
    return replace(
        full.facts,
        precision="int8",
        versions={**full.facts.versions, **versions_of("nncf")},
        files={},
        calibration={"recipe": INT8_RECIPE, "source": source, "frames": len(frames), **lost},
    )


def ignored_names(model: Any, form: postprocess.OutputForm) -> list[str]:
    """Operations that stay in float: each sigmoid and softmax, and from the last convolutions on all of the head.

    Of RT-DETR it is the whole decoder.
    """
    names = [(op.get_friendly_name(), op.get_type_name()) for op in model.get_ops()]
    layers = [int(found[1]) for name, _ in names if (found := _LAYER.match(name))]
    head = re.escape(f"__module.network.model.{max(layers, default=-1)}")
    part = r"[./]" if form == "queries" else r"(/|\.dfl|\.(one2one_)?cv\d\.\d+\.2/)"
    in_float = re.compile(head + part)
    # The name of an activation function is that of the layer that the converter met it in first.
    return [
        name
        for name, kind in names
        if kind in ("Sigmoid", "Softmax") or (kind not in ("Constant", "Swish") and in_float.match(name))
    ]


def _compare(full: ExportedModel, small: Path, frames: Sequence[npt.NDArray[np.uint8]]) -> dict[str, float]:
    """What INT8 finds of FP32's boxes, over the frames."""
    facts = full.facts
    pairs = zip(
        _rows(OpenVinoNetwork(full.file, "fp32", usable_cores(), 1), facts, frames),
        _rows(OpenVinoNetwork(small, "int8", usable_cores(), 1), facts, frames),
        strict=True,
    )
    wanted = found = extra = 0
    differences: list[float] = []
    for a, b in pairs:
        hits = _partners(a, b)
        wanted += len(a)
        found += int((hits >= 0).sum())
        extra += int((_partners(b, a) < 0).sum())
        differences += np.abs(a[hits >= 0, 4] - b[hits[hits >= 0], 4]).tolist()
    return {
        "boxes_fp32": wanted,
        "found_again": found,
        "found_again_share": round(found / wanted, 4) if wanted else 1.0,
        "extra": extra,
        "score_difference_mean": round(float(np.mean(differences)), 5) if differences else 0.0,
        "score_difference_max": round(float(np.max(differences)), 5) if differences else 0.0,
    }


def _rows(
    network: OpenVinoNetwork, facts: ModelFacts, frames: Sequence[npt.NDArray[np.uint8]]
) -> Iterator[npt.NDArray[np.float32]]:
    """(K, 6) boxes in input px of each frame."""
    for frame in frames:
        for output in network.outputs(frame[None]):
            yield postprocess.select(
                output, facts.form, [_SCORE], input_hw=frame.shape[:2], iou=0.7, max_detections=300
            )[0]


def _partners(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """For each box of `a` the one of `b` that overlaps it most, of its class; -1 where none does by half."""
    if not len(a) or not len(b):
        return np.full(len(a), -1, np.intp)
    iou = np.where(a[:, None, 5] == b[None, :, 5], box_iou(a[:, :4], b[:, :4]), 0.0)
    return np.where(iou.max(1) >= _IOU, iou.argmax(1), -1)


def _import_nncf() -> Any:
    try:
        with without_telemetry():
            return importlib.import_module("nncf")
    except ImportError as error:
        raise ModelError(
            f"int8 needs the package nncf, which cannot be imported ({printable(error)}): pip install "
            "'perception_batch[int8]'"
        ) from None


@contextmanager
def _hushed() -> Iterator[None]:
    """NNCF's bars go to a terminal's stderr, or nowhere; of its lines warnings and errors stay."""
    its = logging.getLogger("nncf")
    level = its.level
    its.setLevel(logging.WARNING)
    try:
        with redirect_stdout(sys.stderr if sys.stderr.isatty() else io.StringIO()):
            yield
    finally:
        its.setLevel(level)
