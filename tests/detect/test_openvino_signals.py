"""A signal after detectors were opened and freed in any order stops the program; it does not crash it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from perception_batch.config import DetectConfig
from perception_batch.detect import open_detector

CODE = """
import gc, os, signal, sys
import numpy as np
from perception_batch.config import DetectConfig
from perception_batch.detect import open_detector
from perception_batch.signals import Stopped, handled

settings = DetectConfig(model=sys.argv[1], backend="openvino", device="cpu", image_size=64)
opened = [open_detector(settings) for _ in range(3)]
view = opened[0].view((64, 64))
for detector in opened:
    detector.detect(np.zeros((1, *view.input_hw, 3), np.uint8), [view], [0.1])
detector = None
while opened:
    del opened[0]  # the first opened is freed first
    gc.collect()
try:
    with handled():
        os.kill(os.getpid(), signal.SIGTERM)
except Stopped as stop:
    sys.exit(stop.exit_status)
"""


def test_a_signal_after_detectors_were_freed_is_heard(make_weights: Callable[[str], Path]) -> None:
    pytest.importorskip("openvino")
    model = open_detector(
        DetectConfig(model=str(make_weights("yolo11n.yaml")), backend="openvino", device="cpu", image_size=64)
    ).info.path
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(model)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (143, "")
