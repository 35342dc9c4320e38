"""Which drives the paths on a command line mean.

A log file is a drive, and so is a folder with ``metadata.yaml``, and so are split files together that are named
as recorders do (``name_0.mcap``, ``name_1.mcap``, from 0 on). Any other folder is searched for these. A
drive is called after its file stem (without the split's number) or bag folder. A folder without logs that holds videos,
or images with their times, is one drive (videos that are named one by one are drives of their own, or one with
``--one-drive``).

A path that is not there and holds ``*``, ``?`` or ``[`` is a pattern, as a shell would read it (``**``: any depth), so that a
timer or a quoted word can name tonight's files.
"""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from perception_batch.errors import ConfigError, LogError, printable

LOG_SUFFIXES = (".bag", ".mcap", ".db3")
_PACKED = r"(?P<packed>\.active|\.zstd|\.zst|\.lz4)*"
_LOG_NAME = re.compile(rf"^(?P<stem>.+?)(?P<suffix>\.orig\.bag|\.bag|\.mcap|\.db3){_PACKED}$")
"""Logs, packed as a whole or not, and bags that were never closed (``.active``)."""
_SPLIT = re.compile(r"^(?P<stem>.+)_(?P<number>[0-9]{1,18})$")
_MOST_DEPTH = 6
_MOST_NAME_BYTES = 200
"""Of a drive's name: file systems take 255, and files beside the folder bear it with an ending."""


@dataclass(frozen=True, slots=True)
class Drive:
    """One drive and the files that hold it."""

    name: str
    """Name of the output folder; safe as a path component."""
    paths: tuple[Path, ...]
    """A file, a bag folder, or the split files, in order."""


def _holds_no_pictures(folder: Path) -> bool:  # noqa: ARG001 - the signature of what else may be given
    return False


def find_drives(
    paths: Sequence[Path],
    *,
    one_drive: bool = False,
    template: str = "{stem}",
    holds_pictures: Callable[[Path], bool] = _holds_no_pictures,
) -> list[Drive]:
    """The drives that `paths` mean, in the order given, folders in sorted order.

    Args:
        paths: files, bag folders, or folders of those.
        one_drive: all paths are one drive.
        template: of the name; ``{stem}`` and ``{parent}`` are known.
        holds_pictures: tells of a folder without logs whether it holds the videos or images of a drive.

    Raises:
        LogError: a path does not exist, or a folder holds no log.
        ConfigError: two drives would have one name, or the template is wrong.
    """
    if not paths:
        raise ConfigError("no log given")
    paths = [found for path in paths for found in _matching(path)]
    if one_drive:
        return [Drive(_name(paths[0], template, split=len(paths) > 1), tuple(paths))]
    drives = [
        Drive(_name(group[0], template, split=len(group) > 1), group)
        for p in paths
        for group in _groups(p, holds_pictures)
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


def _matching(path: Path) -> list[Path]:
    """The path, or what it stands for where it is a pattern, sorted.

    Raises:
        LogError: nothing is there.
    """
    if path.exists():
        return [path]
    if not isinstance(path, Path) or not glob.has_magic(str(path)):
        raise LogError(path, "no such file or folder")
    found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207 - from the root too
    if not found:
        raise LogError(path, "nothing matches this pattern")
    return found


def _groups(path: Path, holds_pictures: Callable[[Path], bool]) -> Iterable[tuple[Path, ...]]:
    if path.is_file() or (path / "metadata.yaml").is_file():
        return [(path,)]
    found = list(_search(path, _MOST_DEPTH))
    if not found and holds_pictures(path):
        return [(path,)]
    if not found:
        raise LogError(
            path,
            f"holds no log: no {', '.join(LOG_SUFFIXES)} file, no folder with metadata.yaml, no videos or images",
        )
    return found


def _search(folder: Path, depth: int) -> Iterable[tuple[Path, ...]]:
    if (folder / "metadata.yaml").is_file():
        yield (folder,)
        return
    entries = sorted(folder.iterdir())
    files = [p for p in _without_twins(entries) if p.is_file()]
    yield from _split_sets(files)
    if depth:
        for child in entries:
            if not child.is_dir():
                continue
            # A link to a bag is a drive; a link to anything else may lead in a circle.
            if not child.is_symlink() or (child / "metadata.yaml").is_file():
                yield from _search(child, depth - 1)


def _without_twins(entries: Sequence[Path]) -> list[Path]:
    """The logs among `entries`, each in one form: not also packed, unfinished, or as before it was reindexed."""
    here = {path.name for path in entries}

    def is_twin(name: str) -> bool:
        match = _LOG_NAME.match(name)
        plain = "" if match is None else match["stem"] + match["suffix"].removeprefix(".orig")
        return plain != name and plain in here

    return [path for path in entries if _LOG_NAME.match(path.name) and not is_twin(path.name)]


def _stem(path: Path) -> str:
    """The name without what tells that it is a log."""
    match = _LOG_NAME.match(path.name)
    return match["stem"] if match else path.stem


def _suffix(path: Path) -> str:
    """Splits of one recording have the same: a packed one may stand beside one that is not."""
    match = _LOG_NAME.match(path.name)
    return match["suffix"] if match else path.suffix


def _split_sets(files: Sequence[Path]) -> Iterable[tuple[Path, ...]]:
    """Files named ``name_0``, ``name_1``, ..., as recorders split a drive, are one; others are alone."""
    numbered: dict[tuple[str, str], list[Path]] = {}
    for file in files:
        match = _SPLIT.match(_stem(file))
        numbered.setdefault((match["stem"] if match else _stem(file), _suffix(file)), []).append(file)
    for members in numbered.values():
        members.sort(key=_split_number)
        numbers = [_SPLIT.match(_stem(m)) for m in members]
        texts = [m["number"] if m else "" for m in numbers]
        if texts[0] == "0" and all(text == str(int(text)) for text in texts):
            yield tuple(members)
        else:  # scene_0061 and scene_0103 are two drives
            yield from ((member,) for member in members)


def _split_number(path: Path) -> tuple[int, str]:
    match = _SPLIT.match(_stem(path))
    return (int(match["number"]) if match else -1), _stem(path)


def _name(path: Path, template: str, *, split: bool = False) -> str:
    path = path.resolve()
    stem = _stem(path) if path.is_file() else path.name
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
    if len(safe.encode("utf-8", "surrogateescape")) > _MOST_NAME_BYTES:
        mark = hashlib.sha256(safe.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        cut = safe.encode("utf-8", "surrogateescape")[: _MOST_NAME_BYTES - 13].decode("utf-8", "ignore")
        safe = f"{cut}-{mark}"  # two long names that begin alike stay two
    return safe
