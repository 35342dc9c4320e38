"""Where exported models are kept: a folder each in the user's cache, named by all that decides over its content."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from perception_batch.detect.facts import SCHEMA, BackendName, ExportedModel, Precision, open_exported
from perception_batch.detect.weights import cache_dir
from perception_batch.errors import ModelError, WriteError, printable

MODEL_STEM = "model"
"""Files of an export: model.xml and model.bin, model.onnx or model.engine, and model.json."""

INT8_RECIPE = 2
"""How `quantize` makes them, in their facts: those of another recipe are not taken from the cache."""


def versions_of(*packages: str) -> dict[str, str]:
    """Installed versions by package; those that are not installed are left out."""
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def cached_folder(weights: Path, sha256: str, backend: BackendName, precision: Precision, shape: str) -> Path:
    """Where an export of these weights lies, whether there is one or not.

    Args:
        weights: names the folder for people; the hash decides.
        sha256: of the weights.
        backend: what runs it.
        precision: of the network.
        shape: the input sizes it takes: ``any``, or the long side in px.
    """
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", weights.stem)[:40] or "model"
    return cache_dir() / "exports" / f"{stem}-{sha256[:20]}-{backend}-{precision}-{shape}-v{SCHEMA}"


def find_cached(
    weights: Path, sha256: str, backend: BackendName, precision: Precision, image_size: int
) -> ExportedModel | None:
    """The cached export of these weights for this size; None where there is none, or it is damaged, or out of date.

    Out of date is what other versions of the packages made. Packages that are not installed any more do not count:
    then nothing better can be had. Nor do a calibrated model's packages, which nobody but the user can make again; it is
    out of date when it was made by another recipe.
    """
    for shape in ("any", str(image_size)):
        folder = cached_folder(weights, sha256, backend, precision, shape)
        if not folder.is_dir():
            continue
        try:
            model = open_exported(folder)
        except ModelError:
            continue
        facts = model.facts
        if facts.precision == "int8":
            current = facts.calibration.get("recipe") == INT8_RECIPE
        else:
            made_by = facts.versions
            current = all(made_by[name] == number for name, number in versions_of(*made_by).items())
        if current and (facts.sha256, facts.backend, facts.precision) == (sha256, backend, precision):
            return model
    return None


def store(folder: Path, write: Callable[[Path], None]) -> ExportedModel:
    """Make the folder by `write`, whole or not at all; what stood there is replaced.

    Raises:
        WriteError: it cannot be written.
        ModelError: `write` could not make the model.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as beside:
            made, old = Path(beside) / "new", Path(beside) / "old"
            made.mkdir()
            write(made)
            if folder.exists():
                folder.rename(old)
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
                shutil.rmtree(made)  # another process was faster, with the same
    except OSError as error:
        raise WriteError(
            f"{printable(error.filename or folder)}: cannot be written: {error.strerror or error}"
        ) from None
    return open_exported(folder)


def may_replace(folder: Path) -> bool:
    """Whether `folder` is absent, empty, or holds an earlier export and nothing else."""
    if not folder.exists():
        return True
    own = {f"{MODEL_STEM}{ending}" for ending in (".xml", ".bin", ".json", ".onnx", ".engine")}
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= own
