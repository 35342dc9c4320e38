"""Where the real recordings are, and what is skipped without them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before any test imports PyTorch: threads that wait by spinning would take the cores from other tests' processes.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("PERCEPTION_BATCH_SHARED", ROOT.parent / "shared"))


def _has_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    real_missing = not (SHARED / "recordings").is_dir()
    for item in items:
        if real_missing and item.get_closest_marker("real"):
            item.add_marker(
                pytest.mark.skip(reason=f"no real recordings at {SHARED} (PERCEPTION_BATCH_SHARED)")
            )
        if (
            item.get_closest_marker("gpu")
            and os.environ.get("PERCEPTION_BATCH_REQUIRE_GPU") != "1"
            and not _has_cuda()
        ):
            item.add_marker(
                pytest.mark.skip(reason="no CUDA device (PERCEPTION_BATCH_REQUIRE_GPU=1 makes this fail)")
            )


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's cache is not touched: exports go into one of the session's own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True, scope="module")
def no_real_time() -> Iterator[None]:
    """No library may leave this process before all others of the machine: as root some encoders do (see `video_maker`)."""
    before = _scheduling()
    yield
    assert _scheduling() == before


def _scheduling() -> int:
    return os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else 0


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Folder of the real recordings; for tests marked `real`."""
    return SHARED / "recordings"


@pytest.fixture(scope="session")
def weights() -> Path:
    """Real YOLO11n weights; for tests marked `real`."""
    return SHARED / "models" / "yolo11n.pt"
