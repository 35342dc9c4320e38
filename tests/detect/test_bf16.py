"""bfloat16: only who asks for it gets it, only where the processor has it, and it finds nearly the same boxes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from detect_pictures import boxes_of

from perception_batch.config import DetectConfig
from perception_batch.detect import compare_boxes, open_detector, openvino_backend
from perception_batch.errors import ConfigError


def settings_for(weights: Path, **more: Any) -> DetectConfig:
    usual: dict[str, Any] = {"backend": "openvino", "device": "cpu", "image_size": 160, "batch_size": 4}
    return DetectConfig(model=str(weights), **(usual | more))


def test_without_amx_it_is_refused_with_what_is_allowed(
    make_weights: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_backend, "has_bf16", lambda: False)
    weights = make_weights("yolo11n.yaml")
    with pytest.raises(ConfigError, match=r"AMX.*auto, fp32, int8"):
        open_detector(settings_for(weights, precision="bf16"))
    detector = open_detector(settings_for(weights))  # and nobody who did not ask for it gets it
    assert detector.info.precision == "fp32"
    detector.close()


def test_another_backend_is_refused(make_weights: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="bf16"):
        open_detector(settings_for(make_weights("yolo11n.yaml"), backend="torch", precision="bf16"))


@pytest.mark.real
@pytest.mark.skipif(not openvino_backend.has_bf16(), reason="the processor has no AMX")
def test_it_finds_nearly_the_same_boxes(
    weights: Path, recordings: Path, read_images: Callable[..., tuple[Any, ...]]
) -> None:
    images = read_images(recordings / "nuscenes_n008", every=6)[:24]
    exact = open_detector(settings_for(weights, image_size=640))
    fast = open_detector(settings_for(weights, image_size=640, precision="bf16"))
    assert (exact.info.precision, fast.info.precision) == ("fp32", "bf16")
    expected, found = boxes_of(exact, images, 0.25), boxes_of(fast, images, 0.25)
    exact.close()
    fast.close()
    agreement = compare_boxes(expected, found, score=0.25)
    assert agreement.boxes > 20
    assert agreement.lost + agreement.gained <= max(0.06 * agreement.boxes, 1), agreement
    assert agreement.share < 1  # it really is another arithmetic
