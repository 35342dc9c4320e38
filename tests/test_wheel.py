"""What is installed from the wheel is whole: it works outside the checkout, with its data files."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("pyproject.toml", "README.md", "LICENSE")


def call(command: Sequence[str | Path], folder: Path) -> str:
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing old in ``build/`` gets in and nothing new into the checkout."""
    pytest.importorskip("build")
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    shutil.copytree(
        ROOT / "perception_batch", source / "perception_batch", ignore=shutil.ignore_patterns("__pycache__")
    )
    call([sys.executable, "-m", "build", "--no-isolation", "--outdir", source / "dist", source], source)
    (found,) = (source / "dist").glob("*.whl")
    assert len(list((source / "dist").glob("*.tar.gz"))) == 1
    return found


def test_it_holds_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if name.startswith("perception_batch/")}
    package = ROOT / "perception_batch"
    wanted = {
        str(path.relative_to(ROOT))
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith(".")
    }
    assert {"perception_batch/py.typed", "perception_batch/report/assets/page.css"} - wanted == set()
    assert wanted - inside == set()


def test_package_indexes_would_take_it(wheel: Path) -> None:
    pytest.importorskip("twine")
    files = [str(path) for path in wheel.parent.iterdir()]
    call([sys.executable, "-m", "twine", "check", "--strict", *files], wheel.parent)


def test_it_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    site = Path(
        call([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], tmp_path).strip()
    )
    # What the package depends on is taken from here: `.pth` files there, such as our own editable install, do not count.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    call([*pip, "--ignore-installed", "--no-index", "--disable-pip-version-check", wheel], tmp_path)
    where = call([python, "-c", "import perception_batch; print(perception_batch.__file__)"], tmp_path)
    assert Path(where.strip()).is_relative_to(site)
    command = home / "bin" / "perception-batch"
    assert "simulate" in call([command, "--help"], tmp_path)
    words = ["--preset", "front", "--duration", "0.4", "--rate", "5", "--size", "160x100", "--format", "bag"]
    assert "drive.bag" in call([command, "simulate", "drive", *words], tmp_path)
    assert "cam_front" in call([command, "inspect", "drive/drive.bag"], tmp_path)
