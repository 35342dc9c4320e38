"""`postprocess` in PyTorch, for networks whose output is on a device already: the same boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torchvision.ops import batched_nms

from perception_batch.detect.postprocess import MAX_CANDIDATES, NOT_FINITE, OutputForm, check_shape
from perception_batch.detect.torch_import import torch
from perception_batch.errors import ModelError


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
        output: the network's, see `OutputForm` (not ``one2one``); rows beyond ``len(keep_score)`` are padding and ignored.
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
    n = len(keep_score)
    check_shape(tuple(getattr(output, "shape", ())), form, n)
    output = output[:n].float()
    keep = torch.tensor(list(keep_score), dtype=torch.float32).to(output.device)
    best = output[:, 4:].amax(1) if form == "dense" else output[:, :, 4]  # (n, anchors); carries NaN along
    if not bool(torch.isfinite(best).all()):
        raise ModelError(NOT_FINITE)
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


def _corners(cxcywh: torch.Tensor) -> torch.Tensor:
    """(K, 4) centre and size as left, top, right, bottom."""
    half = cxcywh[:, 2:] / 2
    return torch.cat([cxcywh[:, :2] - half, cxcywh[:, :2] + half], 1)


def _best(rows: torch.Tensor, form: OutputForm, iou: float, max_detections: int) -> torch.Tensor:
    """The rows of one image that stay, best first."""
    if form == "dense":
        if len(rows) > MAX_CANDIDATES:
            rows = rows[torch.sort(rows[:, 4], descending=True, stable=True).indices[:MAX_CANDIDATES]]
        # In double, because it moves the classes apart by adding multiples of the image size to the boxes.
        index = batched_nms(rows[:, :4].double(), rows[:, 4].double(), rows[:, 5], iou)
    else:
        index = torch.sort(rows[:, 4], descending=True, stable=True).indices
    return rows[index[:max_detections]]
