"""Calibration files as plain mappings: YAML, OpenCV's YAML and XML, JSON; from strangers, so with limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from perception_batch.errors import CalibrationError, printable

MAX_RIG_BYTES = 4 << 20
MAX_SCALAR = 4096
"""Characters of one value; YAML's base 60 numbers take quadratic time."""
SUFFIXES = (".yaml", ".yml", ".json", ".xml")


class _Loader(yaml.SafeLoader):
    """YAML with OpenCV's matrices; a tag of its own makes nothing but plain mappings.

    Aliases are refused: a few lines of them stand for billions of values, and no calibration needs one.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias (*name) has no place in a calibration file")
        return super().compose_node(parent, index)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        if isinstance(node, yaml.ScalarNode) and len(node.value) > MAX_SCALAR:
            raise yaml.YAMLError(f"a value of {len(node.value)} characters")
        return super().construct_scalar(node)


def _matrix(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    return loader.construct_mapping(node, deep=True) if isinstance(node, yaml.MappingNode) else None


for _tag in ("opencv-matrix", "opencv-nd-matrix"):  # OpenCV 5 writes vectors as the latter
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _matrix)


def load_calibration(path: Path) -> dict[str, Any]:
    """The content of a calibration file.

    Raises:
        CalibrationError: not there, too large, or neither YAML nor JSON nor OpenCV's XML.
    """
    try:
        if path.stat().st_size > MAX_RIG_BYTES:
            raise CalibrationError(
                path.stem, f"{printable(path)}: larger than {MAX_RIG_BYTES >> 20} MiB, no calibration file"
            )
        text = path.read_text(encoding="utf-8-sig")
        loaded = _parse(text, path.suffix.lower())
    except FileNotFoundError:
        raise CalibrationError(path.stem, f"{printable(path)}: no such calibration file") from None
    except (
        yaml.YAMLError,
        ValueError,
        SyntaxError,
        IsADirectoryError,
        RecursionError,
        OverflowError,
    ) as error:
        why = printable(" ".join(str(error).split()))[:300]
        raise CalibrationError(path.stem, f"{printable(path)}: not YAML, JSON or OpenCV XML: {why}") from None
    if not isinstance(loaded, dict):
        raise CalibrationError(
            path.stem, f"{printable(path)}: names with values are missing: no calibration of a known form"
        )
    return loaded


def _parse(text: str, suffix: str) -> Any:
    if suffix == ".json":
        return json.loads(text)
    if suffix == ".xml" or text.lstrip().startswith("<?xml"):
        return _xml(text)
    # OpenCV writes `%YAML:1.0`, which is no YAML directive.
    lines = text.splitlines()
    body = "\n".join(lines[1:] if lines and lines[0].startswith("%YAML:") else lines)
    return yaml.load(body, Loader=_Loader)  # noqa: S506


def _xml(text: str) -> dict[str, Any]:
    """OpenCV FileStorage XML: one level of values, and matrices of rows, cols, dt and data."""
    from xml.etree import ElementTree

    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("a document type has no place in a calibration file")
    root = ElementTree.fromstring(text)  # noqa: S314  entities are refused above
    if root.tag != "opencv_storage":
        raise ValueError(f"XML of <{printable(root.tag)[:40]}>, not of <opencv_storage>")
    out: dict[str, Any] = {}
    for child in root:
        if child.find("data") is not None:
            out[child.tag] = {"data": [float(word) for word in (child.findtext("data") or "").split()]}
        else:
            words = (child.text or "").split()
            out[child.tag] = [_value(word) for word in words] if len(words) > 1 else _value(" ".join(words))
    return out


def _value(word: str) -> Any:
    plain = word.strip('"')
    if len(plain) > MAX_SCALAR:
        raise ValueError(f"a value of {len(plain)} characters")
    try:
        return float(plain) if any(c in plain for c in ".eE") else int(plain)
    except ValueError:
        return plain
