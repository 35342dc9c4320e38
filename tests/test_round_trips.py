"""The same drawn drive in every container and encoding, through our own reader and decoders."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from perception_batch.api import open_log
from perception_batch.decode import decode_frame, pictures
from perception_batch.simulate.drive import simulate
from perception_batch.simulate.scene import World
from perception_batch.simulate.settings import Faults, SimulateSettings
from perception_batch.simulate.stage import real_stage
from perception_batch.types import EncodedFrame

CONTAINERS = ("bag", "sqlite3", "mcap", "foxglove")
IMAGES = ("jpeg", "png", "rgb8", "bayer_rggb8", "nv12", "h264", "h265")
SETTINGS = SimulateSettings(
    preset="front",
    duration_s=0.5,
    size_px=(320, 200),
    low_pass=True,
    faults=Faults(jitter_ms=2),
)
Pictures = list[tuple[int, int, npt.NDArray[np.uint8]]]


@lru_cache(maxsize=1)
def _world(seconds: float) -> World:
    return real_stage().world(SETTINGS, seconds)


# The world depends on none of what differs here, and takes longer to plan than five pictures to draw.
STAGE = replace(real_stage(), world=lambda _, seconds: _world(seconds))


def read(log: Path) -> Pictures:
    """Stamp, log time and RGB pixels of every frame."""
    with open_log(log) as drive:
        items = pictures(drive.stream(drive.select(None)), max_image_mpx=8)
        frames = [item for item in items if isinstance(item, EncodedFrame)]
        assert not drive.losses
        return [(f.stamp_ns, f.log_ns, decode_frame(f, 8).image) for f in frames]


def psnr_db(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return 10 * np.log10(255**2 / error) if error else np.inf


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    """As PNGs in a bag, read by the same code: the other readers agree on those (tests/simulate)."""
    out = read(
        simulate(tmp_path_factory.mktemp("png") / "out", replace(SETTINGS, image="png", container="bag"))
    )
    assert len(out) == 5
    return out


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("image", IMAGES)
def test_identical_stamps_and_pixels(tmp_path: Path, expected: Pictures, container: str, image: str) -> None:
    settings = replace(SETTINGS, container=container, image=image)  # type: ignore[arg-type]
    got = read(simulate(tmp_path / "out", settings, stage=STAGE))
    assert [(stamp, log) for stamp, log, _ in got] == [(stamp, log) for stamp, log, _ in expected]
    for (_, _, ours), (_, _, theirs) in zip(got, expected, strict=True):
        if image in ("png", "rgb8"):
            np.testing.assert_array_equal(ours, theirs)
        else:
            assert psnr_db(ours, theirs) > 35
