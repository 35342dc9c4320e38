"""A small YOLO trained from random initialisation on a CPU, in a loop that can be stopped anywhere.

The network, its loss and its assignment of targets are Ultralytics' (AGPL-3.0); the loop is our own because their
trainer cannot go on in the middle of an epoch, reads files for every view and knows no places to ignore. One thread
does it all: two of them give 1.3 times the views for twice the CPU time.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from demo_model_pictures import CLASSES, IGNORED, Pictures, Views
from torch import nn

from perception_batch.types import Detections

WINDOW_WH = (384, 256)
WHOLE_WH = (640, 416)
WINDOWS, WHOLES = 16, 6
"""Views of a step: windows, or whole pictures (2.7 times as large)."""
SCALE = (0.5, 0.25, 512)
"""YOLO11's depth, width and most channels: those of yolo11n with half the channels at the top, 1.5 million weights."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One training."""

    steps: int
    """In all."""
    seed: int = 0
    """Of the weights and the views."""
    learning_rate: float = 2.5e-3
    """Largest; AdamW."""
    weight_decay: float = 0.02
    whole_share: float = 0.35
    """Share of the steps on whole pictures..."""
    last_whole_share: float = 0.7
    """... and of those in the last sixth."""
    ema: float = 0.9985
    """Weights that are kept are an exponential mean over about 1 / (1 - ema) steps."""


def build_network() -> Any:
    """YOLO11 of our scale for our classes, randomly initialised."""
    import ultralytics
    import yaml
    from ultralytics.nn.tasks import DetectionModel

    path = Path(ultralytics.__file__).parent / "cfg" / "models" / "11" / "yolo11.yaml"
    layout = yaml.safe_load(path.read_text())
    layout.update(scales={"n": list(SCALE)}, scale="n", nc=len(CLASSES))
    network = DetectionModel(layout, ch=3, nc=len(CLASSES), verbose=False)
    network.names = dict(enumerate(CLASSES))
    network.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)
    return network.to(memory_format=torch.channels_last)


class _ForgivingBCE(nn.Module):
    """Cross entropy that does not hold anything against the network where a place is to be ignored."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.ones(1, 1, 1)

    def forward(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        entropy = nn.functional.binary_cross_entropy_with_logits(scores, targets, reduction="none")
        return entropy * torch.where(targets > 0, torch.ones(()), self.weight)


def _open_weight(grids: list[torch.Size], strides: list[float], ignored: list[torch.Tensor]) -> torch.Tensor:
    """(B, anchors, 1): 0 for anchors in ignored boxes, 1 elsewhere."""
    points = []
    for (rows, columns), stride in zip(grids, strides, strict=True):
        y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
        points.append(torch.stack([x.flatten(), y.flatten()], 1) * stride)
    at = torch.cat(points)
    # A cell's middle may miss a box that is smaller than the cell.
    out = torch.ones(len(ignored), len(at), 1)
    for row, boxes in enumerate(ignored):
        if len(boxes):
            inside = (at[:, None, :] >= boxes[None, :, :2] - 4) & (at[:, None, :] <= boxes[None, :, 2:] + 4)
            out[row, inside.all(2).any(1)] = 0
    return out


class Trainer:
    """Network, mean of its weights, optimiser and the lot; all of it goes into a checkpoint."""

    def __init__(self, plan: Plan, pictures: Pictures) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(plan.seed)
        self.plan, self.step, self.views = plan, 0, 0
        self.cpu_s = 0.0
        self.curve: list[dict[str, Any]] = []
        self._views = Views(pictures)
        self.network = build_network().train()
        self.mean = deepcopy(self.network).eval().requires_grad_(False)
        self._loss = self.network.init_criterion()
        self._loss.bce = self._bce = _ForgivingBCE()
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        self._optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": plan.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=plan.learning_rate,
            betas=(0.9, 0.99),
        )
        self._bf16 = _has_bf16()

    def one_step(self) -> float:
        """Draw views, go one step, return the loss per view."""
        done = self.step / self.plan.steps
        # The lot of a step depends on its number alone, so that a training that was stopped goes on as it would have.
        rng = np.random.default_rng((self.plan.seed, self.step))
        whole = rng.random() < (self.plan.last_whole_share if done > 5 / 6 else self.plan.whole_share)
        images, targets, ignored = self._batch(rng, whole=bool(whole))
        warm_up = min(1.0, (self.step + 1) / 300)
        rate = self.plan.learning_rate * warm_up * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            raw = self.network(images)
        raw = {key: _float(value) for key, value in raw.items()}
        self._bce.weight = _open_weight(
            [f.shape[2:] for f in raw["feats"]], self._loss.stride.tolist(), ignored
        )
        loss = self._loss(raw, targets)[0].sum() / len(images)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 10.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.views += len(images)
        self._follow()
        return float(loss.detach())

    def _batch(
        self, rng: np.random.Generator, *, whole: bool
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], list[torch.Tensor]]:
        size, count = (WHOLE_WH, WHOLES) if whole else (WINDOW_WH, WINDOWS)
        images = np.empty((count, size[1], size[0], 3), np.uint8)
        owners, kinds, boxes, ignored = [], [], [], []
        for i in range(count):
            images[i], box, kind = self._views.draw(rng, size, whole=whole)
            taught = kind != IGNORED
            owners.append(np.full(int(taught.sum()), i))
            kinds.append(kind[taught])
            middle, extent = (box[taught, :2] + box[taught, 2:]) / 2, box[taught, 2:] - box[taught, :2]
            boxes.append(np.concatenate([middle, extent], axis=1) / [*size, *size])
            ignored.append(torch.from_numpy(box[~taught]))
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
        targets = {
            "batch_idx": torch.from_numpy(np.concatenate(owners)).float(),
            "cls": torch.from_numpy(np.concatenate(kinds)).float(),
            "bboxes": torch.from_numpy(np.concatenate(boxes)).float(),
        }
        return pixels, targets, ignored

    def _follow(self) -> None:
        """The mean of the weights takes a step after the weights."""
        decay = min(self.plan.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for kept, new in zip(
                self.mean.state_dict().values(), self.network.state_dict().values(), strict=True
            ):
                if kept.dtype.is_floating_point:
                    kept.lerp_(new, 1 - decay)
                else:
                    kept.copy_(new)

    def start_from(self, path: Path) -> None:
        """Begin a further round of training with the mean weights of another checkpoint; rate and optimiser begin anew."""
        weights = torch.load(path, weights_only=True)["mean"]
        self.network.load_state_dict(weights)
        self.mean.load_state_dict(weights)

    def save(self, path: Path) -> None:
        """All that is needed to go on."""
        state = {
            "plan": asdict(self.plan),
            "step": self.step,
            "views": self.views,
            "cpu_s": self.cpu_s,
            "curve": self.curve,
            "network": self.network.state_dict(),
            "mean": self.mean.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        partial = path.with_name(path.name + ".partial")
        torch.save(state, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same plan; only its length may have changed.

        Raises:
            ValueError: it is of another plan.
        """
        state = torch.load(path, weights_only=True)
        if {**state["plan"], "steps": self.plan.steps} != asdict(self.plan):
            raise ValueError(
                f"{path} belongs to another plan: {state['plan']}; remove it or keep to that plan"
            )
        self.step, self.views, self.cpu_s = state["step"], state["views"], state["cpu_s"]
        self.curve = state["curve"]
        self.network.load_state_dict(state["network"])
        self.mean.load_state_dict(state["mean"])
        self._optimizer.load_state_dict(state["optimizer"])


def _has_bf16() -> bool:
    """Whether the CPU multiplies in bfloat16 itself; where it does not, that is slower than float32."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _float(value: Any) -> Any:
    return [v.float() for v in value] if isinstance(value, (list, tuple)) else value.float()


def train(
    trainer: Trainer, folder: Path, measure: Callable[[Any], dict[str, Any]], *, every_s: float = 600.0
) -> None:
    """Train to the end of the plan; `folder` keeps ``last.pt`` and ``curve.jsonl``.

    Args:
        trainer: fresh; goes on from ``last.pt`` where there is one.
        folder: of this training.
        measure: figures of a network.
        every_s: CPU time between two measurements. Wall time has no say in anything: the process may be paused.
    """
    last = folder / "last.pt"
    folder.mkdir(parents=True, exist_ok=True)
    if last.is_file():
        trainer.load(last)
        _say(f"goes on at step {trainer.step}")
    saved = measured = time.process_time()
    recent = 0.0
    while trainer.step < trainer.plan.steps:
        before = time.process_time()
        loss = trainer.one_step()
        recent = loss if not recent else 0.98 * recent + 0.02 * loss
        now = time.process_time()
        trainer.cpu_s += now - before
        at_end = trainer.step == trainer.plan.steps
        if trainer.step % 100 == 0:
            speed = trainer.views / trainer.cpu_s
            _say(
                f"step {trainer.step} of {trainer.plan.steps}, {trainer.views} views, loss {recent:.3f}, "
                f"{speed:.1f} views per CPU second"
            )
        if now - measured > every_s or at_end:
            figures: dict[str, Any] = {
                "step": trainer.step,
                "views": trainer.views,
                "cpu_s": round(trainer.cpu_s),
            }
            figures.update(loss=round(recent, 4), **measure(trainer.mean))
            trainer.curve.append(figures)
            with (folder / "curve.jsonl").open("a") as file:
                file.write(json.dumps(figures) + "\n")
            _say(json.dumps(figures))
            measured = time.process_time()
        if now - saved > 120 or at_end:
            trainer.save(last)
            saved = time.process_time()


def _say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


def write_weights(network: Any, path: Path) -> None:
    """An Ultralytics checkpoint in FP16, to be opened as any other."""
    from ultralytics import __version__

    ready = deepcopy(network).eval().half()
    ready.criterion = None
    ready.args = {"task": "detect", "imgsz": WHOLE_WH[0], "model": "yolo11"}
    ready.task = "detect"
    partial = path.with_name(path.name + ".partial")
    torch.save(
        {"epoch": -1, "model": ready, "ema": None, "train_args": ready.args, "version": __version__}, partial
    )
    partial.replace(path)


def detect_all(network: Any, pictures: Pictures, *, keep_score: float = 0.05) -> list[Detections]:
    """Boxes of whole pictures at their own size, by Ultralytics' own suppression: quick, for the curve alone."""
    from demo_model_pictures import decode
    from ultralytics.utils.nms import non_max_suppression

    found = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=_has_bf16()):
        for data in pictures.data:
            image = decode(data)
            high, wide = image.shape[:2]
            top = (-high % 32) // 2
            whole = np.full((high + -high % 32, wide + -wide % 32, 3), 114, np.uint8)
            whole[top : top + high, :wide] = image
            pixels = torch.from_numpy(whole).permute(2, 0, 1)[None].float().div_(255)
            output = network(pixels.contiguous(memory_format=torch.channels_last))
            rows = non_max_suppression(output[0].float(), keep_score, 0.6, max_det=100)[0].numpy()
            box = rows[:, :4] - [0, top, 0, top]
            found.append(Detections(box.astype(np.float32), rows[:, 4], rows[:, 5].astype(np.int16)))
    return found
