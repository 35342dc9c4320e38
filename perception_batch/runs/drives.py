"""Which drives the paths on a command line mean.

A log file is a drive, and so is a folder with ``metadata.yaml``, and so are split files together that are named
as recorders do (``name_0.mcap``, ``name_1.mcap``, from 0 on). Any other folder is searched for these. A
drive is called after its file stem (without the split's number) or bag folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from perception_batch.errors import ConfigError, LogError, printable

LOG_SUFFIXES = (".bag", ".mcap", ".db3")
_SPLIT = re.compile(r"^(?P<stem>.+)_(?P<number>[0-9]{1,18})$")
_MOST_DEPTH = 6


@dataclass(frozen=True, slots=True)
class Drive:
    """One drive and the files that hold it."""

    name: str
    """Name of the output folder; safe as a path component."""
    paths: tuple[Path, ...]
    """A file, a bag folder, or the split files, in order."""


def find_drives(paths: Sequence[Path], *, one_drive: bool = False, template: str = "{stem}") -> list[Drive]:
    """The drives that `paths` mean, in the order given, folders in sorted order.

    Args:
        paths: files, bag folders, or folders of those.
        one_drive: all paths are one drive.
        template: of the name; ``{stem}`` and ``{parent}`` are known.

    Raises:
        LogError: a path does not exist, or a folder holds no log.
        ConfigError: two drives would have one name, or the template is wrong.
    """
    if not paths:
        raise ConfigError("no log given")
    for path in paths:
        if not path.exists():
            raise LogError(path, "no such file or folder")
    if one_drive:
        return [Drive(_name(paths[0], template, split=len(paths) > 1), tuple(paths))]
    drives = [
        Drive(_name(group[0], template, split=len(group) > 1), group) for p in paths for group in _groups(p)
    ]
    seen: dict[str, Drive] = {}
    for drive in drives:
        if drive.name in seen:
            first = seen[drive.name].paths[0]
            raise ConfigError(
                f"two drives are called {drive.name!r}: {printable(first)} and {printable(drive.paths[0])}; "
                'give --drive-name "{parent}_{stem}", or --one-drive if they are one'
            )
        seen[drive.name] = drive
    return drives


def _groups(path: Path) -> Iterable[tuple[Path, ...]]:
    if path.is_file() or (path / "metadata.yaml").is_file():
        return [(path,)]
    found = list(_search(path, _MOST_DEPTH))
    if not found:
        raise LogError(
            path, f"holds no log: no {', '.join(LOG_SUFFIXES)} file and no folder with metadata.yaml"
        )
    return found


def _search(folder: Path, depth: int) -> Iterable[tuple[Path, ...]]:
    if (folder / "metadata.yaml").is_file():
        yield (folder,)
        return
    entries = sorted(folder.iterdir())
    files = [p for p in entries if p.suffix in LOG_SUFFIXES and p.is_file()]
    yield from _split_sets(files)
    if depth:
        for child in entries:
            if not child.is_dir():
                continue
            # A link to a bag is a drive; a link to anything else may lead in a circle.
            if not child.is_symlink() or (child / "metadata.yaml").is_file():
                yield from _search(child, depth - 1)


def _split_sets(files: Sequence[Path]) -> Iterable[tuple[Path, ...]]:
    """Files named ``name_0``, ``name_1``, ..., as recorders split a drive, are one; others are alone."""
    numbered: dict[tuple[str, str], list[Path]] = {}
    for file in files:
        match = _SPLIT.match(file.stem)
        numbered.setdefault((match["stem"], file.suffix) if match else (file.stem, file.suffix), []).append(
            file
        )
    for members in numbered.values():
        members.sort(key=_split_number)
        numbers = [_SPLIT.match(m.stem) for m in members]
        texts = [m["number"] if m else "" for m in numbers]
        if texts[0] == "0" and all(text == str(int(text)) for text in texts):
            yield tuple(members)
        else:  # scene_0061 and scene_0103 are two drives
            yield from ((member,) for member in members)


def _split_number(path: Path) -> tuple[int, str]:
    match = _SPLIT.match(path.stem)
    return (int(match["number"]) if match else -1), path.stem


def _name(path: Path, template: str, *, split: bool = False) -> str:
    path = path.resolve()
    stem = path.name if path.is_dir() else path.stem
    if split and (match := _SPLIT.match(stem)):
        stem = match["stem"]
    try:
        name = template.format(stem=stem, parent=path.parent.name)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
        raise ConfigError(
            f"--drive-name {printable(template)!r}: only {{stem}} and {{parent}} are known"
        ) from None
    safe = re.sub(r"[^\w.+-]", "_", name).strip(".")
    if not safe:
        raise ConfigError(f"--drive-name {printable(template)!r} gives no usable name for {printable(path)}")
    return safe
