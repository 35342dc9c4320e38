"""The house: rooms do not know each other, threads live in one file, heavy things are imported late."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "perception_batch"
ROOMS = sorted(p.name for p in PACKAGE.iterdir() if (p / "__init__.py").is_file())
GROUND = {
    "assignment",
    "arrow_columns",
    "atomic",
    "columnar",
    "lidar",
    "lenses",
    "mounts",
    "types",
    "errors",
    "geometry",
    "calibration",
    "ontology",
    "pairs",
    "config",
    "config_sections",
    "command_options",
    "payloads",
    "picture_quality",
    "records",
    "table_format",
    "trajectory",
    "time_text",
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """First parts below the package of everything that a file imports from it, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            full = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            full = [alias.name for alias in node.names]
        else:
            continue
        names |= {f.split(".")[1] for f in full if f.startswith("perception_batch.")}
    return names


def test_there_are_rooms() -> None:
    assert {"read", "sync", "decode", "detect", "fusion", "render", "write", "runs"} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_knows_the_ground_floor_and_itself_only(room: str) -> None:
    for path in sorted((PACKAGE / room).rglob("*.py")):
        assert imported(path) <= GROUND | {room, "__version__"}, path


@pytest.mark.parametrize("name", sorted(GROUND))
def test_the_ground_floor_knows_no_room(name: str) -> None:
    assert imported(PACKAGE / f"{name}.py") <= GROUND


def test_threads_live_in_flow() -> None:
    for path in FILES:
        modules = {
            alias.name.split(".")[0] if isinstance(node, ast.Import) else (node.module or "").split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in node.names
        }
        if path.name != "flow.py":
            assert not modules & {"threading", "concurrent", "multiprocessing", "asyncio", "queue"}, path


def test_no_file_is_named_by_nothing_and_none_is_a_barn() -> None:
    for path in FILES:
        assert path.stem not in {"utils", "common", "helpers", "base", "misc", "manager", "handler"}
        assert len(path.read_text().splitlines()) <= 450, path


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["run", "--help"],
        ["inspect", "--help"],
        ["render", "--help"],
        ["simulate", "--help"],
        ["evaluate", "--help"],
        ["compare", "--help"],
        ["verify", "--help"],
        ["benchmark", "--help"],
        ["export", "--help"],
        ["status", "--help"],
        ["report", "--help"],
        ["demo", "--help"],
        ["labels", "--help"],
    ],
)
def test_help_imports_nothing_heavy_and_shows_an_example(words: list[str]) -> None:
    code = (
        "import sys\nfrom perception_batch.cli import main\n"
        f"status = main({words!r})\n"
        "heavy = {'numpy', 'cv2', 'torch', 'ultralytics', 'pyarrow', 'av', 'rosbags', 'scipy', 'pydantic', 'rich'}\n"
        "print(status, sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
    assert "example: perception-batch" in done.stdout
    assert not done.stderr
