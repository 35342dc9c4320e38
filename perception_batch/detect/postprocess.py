"""What a network gives, to boxes of the original images. Torch tensors in, on any device; NumPy out.

Each image's boxes depend on that image alone, and never on how long anything takes (Ultralytics' own NMS gives
up after a wall-clock limit).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from perception_batch.errors import ModelError
from perception_batch.geometry import DetectorView
from perception_batch.types import Detections

if TYPE_CHECKING:
    import torch

OutputForm = Literal["dense", "end2end", "queries"]
"""``dense``: (N, 4 + classes, anchors), centre boxes in input px, to be suppressed (YOLOv8, 11);
``end2end``: (N, rows, 6), corner boxes in input px, score, class, final (YOLOv10, 26);
``queries``: (N, rows, 6), centre boxes as fractions of the input, score, class, final (RT-DETR)."""

# As in Ultralytics: more candidates than this in one image are cut by score before suppression.
MAX_CANDIDATES = 30_000


def select(
    output: torch.Tensor,
    form: OutputForm,
    keep_score: Sequence[float],
    *,
    input_hw: tuple[int, int],
    iou: float,
    max_detections: int,
) -> list[npt.NDArray[np.float32]]:
    """The boxes to keep of each image, on the device; one copy to the host at the end.

    Args:
        output: the network's, see `OutputForm`; rows beyond ``len(keep_score)`` are padding and ignored.
        form: what `output` holds.
        keep_score: one an image; boxes with at least that score are candidates.
        input_hw: height and width of the input, px.
        iou: a box that overlaps a better one of its class by more than this is suppressed.
        max_detections: at most so many boxes an image, the best.

    Returns:
        One (K, 6) an image: left, top, right, bottom in input px, score, class; falling score.

    Raises:
        ModelError: the output has another shape, or is not finite.
    """
    import torch

    n = len(keep_score)
    _check_shape(output, form, n)
    output = output[:n].float()
    keep = torch.tensor(list(keep_score), dtype=torch.float32).to(output.device)
    best = output[:, 4:].amax(1) if form == "dense" else output[:, :, 4]  # (n, anchors); carries NaN along
    if not bool(torch.isfinite(best).all()):
        raise ModelError(
            "the network's scores are not finite: damaged weights, or fp16 that overflows (detect.precision=fp32)"
        )
    # Candidates are few: the cut by score comes first, everything after works on them alone. Rows come out
    # ordered by image, then anchor.
    image, anchor = (best >= keep[:, None]).nonzero(as_tuple=True)
    if form == "dense":
        found = output[image, :, anchor]
        score, label = found[:, 4:].max(1)
        rows = torch.cat([_corners(found[:, :4]), score[:, None], label[:, None].float()], 1)
    else:
        rows = output[image, anchor]
        if form == "queries":
            h, w = input_hw
            boxes = _corners(rows[:, :4]) * rows.new_tensor([w, h, w, h])
            rows = torch.cat([boxes, rows[:, 4:]], 1)
    counts = torch.bincount(image, minlength=n).tolist()
    kept = [_best(part, form, iou, max_detections) for part in torch.split(rows, counts)]
    host = torch.cat(kept).cpu().numpy() if kept else np.zeros((0, 6), np.float32)
    return np.split(host, np.cumsum([len(part) for part in kept])[:-1])


def to_detections(rows: npt.NDArray[np.float32], view: DetectorView) -> Detections:
    """(K, 6) boxes of the input, scores and classes as detections of the original image.

    Clipped to what the view shows; boxes without area are dropped. The order is total: falling score, then
    class, left, top, right, bottom.
    """
    xyxy = view.to_original(rows[:, :4])
    # A NaN compares false and drops out here with the boxes that have no area.
    whole = np.flatnonzero((xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1]))
    xyxy, score, label = xyxy[whole], rows[whole, 4], rows[whole, 5]
    order = np.lexsort((xyxy[:, 3], xyxy[:, 2], xyxy[:, 1], xyxy[:, 0], label, -score))
    return Detections(
        np.ascontiguousarray(xyxy[order]), np.ascontiguousarray(score[order]), label[order].astype(np.int16)
    )


def _check_shape(output: Any, form: OutputForm, n: int) -> None:
    shape = tuple(getattr(output, "shape", ()))
    wanted = "(images, 4 + classes, anchors)" if form == "dense" else "(images, rows, 6)"
    right = len(shape) == 3 and shape[0] >= n and (shape[1] > 4 if form == "dense" else shape[2] == 6)
    if not right:
        raise ModelError(
            f"the network gave an output of shape {shape}, expected is {wanted}: no detector's output"
        )


def _corners(cxcywh: torch.Tensor) -> torch.Tensor:
    """(K, 4) centre and size as left, top, right, bottom."""
    import torch

    half = cxcywh[:, 2:] / 2
    return torch.cat([cxcywh[:, :2] - half, cxcywh[:, :2] + half], 1)


def _best(rows: torch.Tensor, form: OutputForm, iou: float, max_detections: int) -> torch.Tensor:
    """The rows of one image that stay, best first."""
    import torch
    from torchvision.ops import batched_nms

    if form == "dense":
        if len(rows) > MAX_CANDIDATES:
            rows = rows[torch.sort(rows[:, 4], descending=True, stable=True).indices[:MAX_CANDIDATES]]
        # In double, because it moves the classes apart by adding multiples of the image size to the boxes.
        index = batched_nms(rows[:, :4].double(), rows[:, 4].double(), rows[:, 5], iou)
    else:
        index = torch.sort(rows[:, 4], descending=True, stable=True).indices
    return rows[index[:max_detections]]
