"""Logs behind URLs: in memory, and on a server that hands out parts of files."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from log_writer import CameraSpec, Container, write_log

from perception_batch.errors import ConfigError, LogError
from perception_batch.read import open_log
from perception_batch.read.containers.place import is_remote, log_path
from perception_batch.runs import find_drives
from perception_batch.types import EncodedFrame

pytest.importorskip("upath")

CONTAINERS: list[Container] = ["mcap", "sqlite3", "bag1"]


@contextmanager
def server(root: Path, sent: list[int]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = root / self.path.lstrip("/")
            if not path.is_file():
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            data = path.read_bytes()
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            low, high = 0, len(data)
            if asked:
                low, high = int(asked[1]), min(int(asked[2]) + 1 if asked[2] else len(data), len(data))
            self.send_response(206 if asked else 200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(high - low))
            if asked:
                self.send_header("Content-Range", f"bytes {low}-{high - 1}/{len(data)}")
            self.end_headers()
            try:
                for at in range(low, high if body else low, 1 << 16):
                    part = data[at : min(at + (1 << 16), high)]
                    self.wfile.write(part)
                sent.append(high - low if body else 0)
            except OSError:  # the other side wanted to know whether the file is there, and closed
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *args: object) -> None:
            pass

    httpd = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def frames(path: Path) -> list[tuple[str, int, bytes]]:
    with open_log([path]) as log:
        out = [
            (x.camera, x.stamp_ns, bytes(x.payload.data))
            for x in log.stream(log.select(None))
            if isinstance(x, EncodedFrame)
        ]
        assert log.losses == ()
        return out


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_file_on_a_server(tmp_path: Path, container: Container) -> None:
    path = write_log(tmp_path, container, [CameraSpec("a", size=(320, 240), encoding="rgb8")], frames=30)
    file = path if path.is_file() else next(p for p in path.iterdir() if p.suffix != ".yaml")
    sent: list[int] = []
    with server(tmp_path, sent) as address:
        url = log_path(f"{address}/{file.relative_to(tmp_path)}")
        assert is_remote(url)
        (drive,) = find_drives([url])
        assert drive.name == "log"
        assert frames(url) == frames(file)
        assert sum(sent) < 1.2 * file.stat().st_size + 500_000
        with open_log([url]) as there, open_log([file]) as here:
            assert there.fingerprint() == here.fingerprint()
        with pytest.raises(LogError, match="no such file"):
            open_log([log_path(f"{address}/nothing.bag")])


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_folder_in_memory(tmp_path: Path, container: Container) -> None:
    path = write_log(tmp_path, container, [CameraSpec("a")], frames=30, splits=3)
    folder = log_path(f"memory://{tmp_path.name}/{container}/log")
    folder.mkdir(parents=True, exist_ok=True)
    for file in [p for p in path.iterdir() if p.is_file() and not p.name.endswith("-journal")]:
        (folder / file.name).write_bytes(file.read_bytes())
    files = list(find_drives([folder])[0].paths)
    assert is_remote(files[0])
    with open_log(files) as log:
        assert sum(isinstance(x, EncodedFrame) for x in log.stream(["a"])) == 30


def test_what_is_a_url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert log_path("a/b.bag") == Path("a/b.bag")
    assert log_path("C:/b.bag") == Path("C:/b.bag")
    assert log_path(f"file://{tmp_path}/b.bag") == tmp_path / "b.bag"
    with pytest.raises(ConfigError, match="cannot be opened"):
        log_path("nonsense://x/y.bag")
    import builtins

    original = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name == "upath":
            raise ImportError(name)
        return original(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"perception-batch\[remote\]"):
        log_path("s3://bucket/drive.mcap")
