"""Settings written into the user's YAML file, whose other lines and comments stay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perception_batch.config import load_config
from perception_batch.errors import ConfigError, printable
from perception_batch.write.atomic import write_whole


def apply_settings(path: Path, values: Mapping[str, Mapping[str, Any]]) -> None:
    """Set keys in a settings file; it is made where there is none.

    Args:
        path: YAML, as for ``--config``.
        values: by section and key: a number or a word.

    Raises:
        ConfigError: the file is no settings file, or is written in a way that cannot be changed line by line; it is
            then as it was.
        WriteError: it cannot be written.
    """
    old = ""
    if path.exists():
        load_config(path)
        old = path.read_text(encoding="utf-8")
    text = old
    for section, keys in values.items():
        for key, value in keys.items():
            text = _with_key(text, section, key, value)
    _check(path, old, text, values)
    write_whole(path, text.encode())


def _with_key(text: str, section: str, key: str, value: Any) -> str:
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if re.match(rf"{section}:\s*(#.*)?$", line)), None)
    if start is None:
        return "\n".join([*lines, f"{section}:", f"  {key}: {value}"]) + "\n"
    end = next((i for i in range(start + 1, len(lines)) if re.match(r"[^\s#]", lines[i])), len(lines))
    indent = "  "
    for i in range(start + 1, end):
        found = re.match(r"(\s+)([A-Za-z_]\w*):(\s*)([^#]*?)(\s+#.*)?$", lines[i])
        if found is None:
            continue
        if found[2] == key:
            lines[i] = f"{found[1]}{key}: {value}{found[5] or ''}"
            return "\n".join(lines) + "\n"
        indent = min(indent, found[1]) if indent != "  " else found[1]
    lines.insert(start + 1, f"{indent}{key}: {value}")
    return "\n".join(lines) + "\n"


def _check(path: Path, old: str, text: str, values: Mapping[str, Mapping[str, Any]]) -> None:
    """What the new text says must be the old settings with the new values, and nothing else."""
    import yaml

    wanted = (yaml.safe_load(old) if old else None) or {}
    for section, keys in values.items():
        wanted[section] = {**(wanted.get(section) or {}), **keys}
    try:
        got = yaml.safe_load(text)
    except yaml.YAMLError:
        got = None
    if got != wanted:
        words = ", ".join(f"{s}.{k}: {v}" for s, keys in values.items() for k, v in keys.items())
        raise ConfigError(
            f"{printable(path)} is written in a way that cannot be changed line by line; set by hand: {words}"
        )
