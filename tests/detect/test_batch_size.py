"""What `batch_size: auto` becomes: measured, remembered, and taken from the run that is resumed."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_batch.detect import (
    DetectorInfo,
    batch_size_key,
    known_batch_size,
    measure_batch_size,
    remember_batch_size,
    smallest_near_best,
)
from perception_batch.detect import batch_size as room
from perception_batch.detect.batch_size import batch_size_file
from perception_batch.errors import ModelError
from perception_batch.geometry import DetectorView
from perception_batch.types import Detections

INFO = DetectorInfo(
    Path("m"), "a" * 64, "torch", "cuda:0", "fp16", {0: "car"}, 32, "letterbox", "detect", 32, 0
)


class Device:
    """A network on a device: a call costs a fixed time and one for each image; memory grows with the batch."""

    def __init__(self, info: DetectorInfo, fixed_s: float, most: int = 1000) -> None:
        self.info, self.now_s, self._fixed_s, self._most = info, 0.0, fixed_s, most
        self.sizes: list[int] = []

    def use_batch_size(self, batch_size: int) -> None:
        self.info = replace(self.info, batch_size=batch_size)

    def detect(
        self, images: npt.NDArray[np.uint8], views: Sequence[DetectorView], keep: Sequence[float]
    ) -> list[Detections]:
        assert len(images) == len(views) == len(keep) == self.info.batch_size
        if len(images) > self._most:
            raise ModelError("cuda:0 has too little memory")
        self.sizes.append(len(images))
        self.now_s += self._fixed_s + 0.001 * len(images)
        return [Detections.empty()] * len(images)

    def view(self, image_hw: tuple[int, int], **_: Any) -> DetectorView:
        return DetectorView.fit(image_hw, long_side_px=640)

    def copy(self) -> Device:
        return self

    def close(self) -> None: ...

    def measured(self) -> dict[int, float]:
        return measure_batch_size(self, (384, 640), lambda: self.now_s)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(room, "cuda_name", lambda _: "Some GPU")
    monkeypatch.setattr(room, "cuda_memory", lambda _: (0, 0))


def test_the_smallest_within_three_per_cent() -> None:
    rates = Device(INFO, fixed_s=0.001).measured()
    assert smallest_near_best(rates) == 32  # 32/33 of what could be; 16/17 is not enough
    assert smallest_near_best(Device(INFO, fixed_s=0.0).measured()) == 4
    assert smallest_near_best({8: 97.0, 16: 100.0, 4: 96.9}) == 8


def test_it_ends_where_more_brings_nothing_costs_time_or_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert max(Device(INFO, 0.001, most=20).measured()) == 16  # the device refuses 32
    assert Device(INFO, 0.001, most=2).measured() == {}
    slow = Device(INFO, fixed_s=1.0)
    assert list(slow.measured()) == [4]  # four calls take longer than there is time
    engine = Device(replace(INFO, backend="tensorrt", batch_size=12), 0.001)
    assert list(engine.measured()) == [4, 8, 12]  # never more than it was built for
    large = Device(INFO, 0.001)
    assert (
        max(measure_batch_size(large, (2048, 4096), lambda: large.now_s)) == 4
    )  # 25 MB an image on the host
    full = Device(INFO, 0.001)
    total = 8 << 30
    monkeypatch.setattr(room, "cuda_memory", lambda _: (total - (max(full.sizes, default=0) << 26), total))
    assert max(full.measured()) == 64  # 4 GiB, half of what was free


def test_a_choice_is_remembered_and_a_benchmark_goes_before_it() -> None:
    key = batch_size_key(INFO, [(384, 640), (416, 640), (384, 640)])
    assert key == f"{'a' * 64} torch fp16 Some_GPU 1x0 384x640+416x640"
    assert known_batch_size(key) is None
    remember_batch_size(key, 16, {16: 100.0}, "measurement")
    assert known_batch_size(key) == 16
    remember_batch_size(key, 8, {8: 90.0, 16: 91.0}, "benchmark")
    remember_batch_size(key, 64, {64: 500.0}, "measurement")
    assert known_batch_size(key) == 8
    others = [replace(INFO, precision="fp32"), replace(INFO, sha256="b" * 64), replace(INFO, backend="onnx")]
    others += [replace(INFO, device="cpu", threads=2), replace(INFO, copies=2)]
    keys = {key, batch_size_key(INFO, [(384, 640)]), *(batch_size_key(o, [(384, 640)]) for o in others)}
    assert len(keys) == 7


@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=50).map(lambda t: json.dumps({"schema": 1, "sizes": t}).encode()),
    )
)
def test_a_damaged_file_is_as_none(content: bytes) -> None:
    path = batch_size_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    assert known_batch_size("k") is None


@pytest.mark.parametrize("size", [0, -1, 5000, 2.5, True, "8", None, [8]])
def test_sizes_that_cannot_be_are_not_taken(size: object) -> None:
    batch_size_file().parent.mkdir(parents=True)
    text = json.dumps({"schema": 1, "sizes": {"k": {"batch_size": size}, "l": 3}})
    batch_size_file().write_text(text)
    assert known_batch_size("k") is None and known_batch_size("l") is None


def test_what_cannot_be_written_is_said_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.INFO):
        remember_batch_size("k", 4, {4: 1.0}, "measurement")
    assert "not kept" in caplog.text


def test_old_choices_are_forgotten_first() -> None:
    for i in range(230):
        remember_batch_size(f"k{i}", 4, {4: 1.0}, "measurement")
    assert known_batch_size("k29") is None and known_batch_size("k30") == known_batch_size("k229") == 4
