"""Logs, the tables that are expected of them, and stores, for runs with outputs at URLs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from log_writer import write_log
from url_runs import (
    Counting,
    cameras,
    expected_of,
)
from url_stores import ShakyStore

from perception_batch import drives_wanted, pipeline


@pytest.fixture(autouse=True)
def detector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pipeline, "open_detector", Counting)
    monkeypatch.setattr(drives_wanted, "known_sha256", lambda _: "0" * 64)
    ShakyStore.reset()
    Counting.images = 0
    yield
    ShakyStore.reset()


@pytest.fixture(scope="package")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("log"), "mcap", cameras(), frames=26, ego_speed_mps=8.0)


@pytest.fixture(scope="package")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two short drives, ``a`` and ``b``."""
    folder = tmp_path_factory.mktemp("short")
    for name in "ab":
        write_log(folder, "mcap", cameras(), frames=9, name=name)
    return folder


@pytest.fixture(scope="package")
def expected(log: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return expected_of(log, tmp_path_factory.mktemp("expected"))


@pytest.fixture(scope="package")
def expected_short(short: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return expected_of(short, tmp_path_factory.mktemp("expected"))


@pytest.fixture(scope="package")
def s3() -> Iterator[str]:
    """An S3 server of this machine; gives its address."""
    server = pytest.importorskip("moto.server", reason="pip install 'moto[s3]' flask flask-cors s3fs")
    pytest.importorskip("s3fs")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                patch.setenv(name, "testing")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
            patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
            import fsspec  # type: ignore[import-untyped]

            fsspec.filesystem("s3").mkdir("bucket")
            yield f"http://{host}:{port}"
    finally:
        running.stop()


@pytest.fixture(params=["memory", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "s3":
        request.getfixturevalue("s3")
        yield f"s3://bucket/{tmp_path.name}"
    elif request.param == "file":
        yield (tmp_path / "remote").as_uri()
    else:
        import fsspec

        yield f"memory://{tmp_path.name}"
        fsspec.filesystem("memory").store.clear()
