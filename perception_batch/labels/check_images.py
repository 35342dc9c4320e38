"""All images of a training set under check: each file is read once, and belongs to one split only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from perception_batch.labels.check_report import FindingList
from perception_batch.labels.checked_image import IMAGE_SUFFIXES, ImageFacts, is_regular, read_facts

LARGEST_TEXT_BYTES = 8 << 20
"""Of one label file or list: a hundred thousand boxes or names."""


class ImageTable:
    """The images met so far, by their place below the folder."""

    def __init__(self, folder: Path, found: FindingList) -> None:
        self._folder = folder
        self._found = found
        self._facts: dict[str, ImageFacts] = {}
        self._split_of: dict[str, str] = {}
        self._by_stem: dict[str, tuple[str, str]] = {}
        self._by_hash: dict[str, tuple[str, str]] = {}

    def __len__(self) -> int:
        return len(self._facts)

    def places(self) -> Iterator[str]:
        """Every place met so far."""
        return iter(self._facts)

    def facts(self, place: str, split: str) -> ImageFacts:
        """What the file at `place`, which exists, says; noted as part of `split`."""
        facts = self._facts.get(place)
        if facts is None:
            facts = self._facts[place] = read_facts(self._folder / place, place, self._found)
            self._split_of[place] = split
            self._note(self._by_stem, PurePosixPath(place).stem, "an image of that name", place, split)
            if facts.sha256:
                self._note(self._by_hash, facts.sha256, "the same bytes", place, split)
        elif self._split_of[place] != split:
            self._found.add("split-overlap", place, f"in split {self._split_of[place]} and in split {split}")
        return facts

    def _note(self, seen: dict[str, tuple[str, str]], key: str, what: str, place: str, split: str) -> None:
        first_place, first_split = seen.setdefault(key, (place, split))
        if first_split != split:
            self._found.add(
                "split-overlap", place, f"split {split}; {what} in split {first_split}: {first_place}"
            )


def inside(place: object) -> str | None:
    """`place` as a plain path below the set's folder; None where it is none, or leads out."""
    if not isinstance(place, str) or not place or "\0" in place or "\\" in place or len(place) > 1000:
        return None
    path = PurePosixPath(place)
    if path.is_absolute() or ".." in path.parts:
        return None
    return str(path)


def image_files(folder: Path, below: str) -> Iterator[str]:
    """Places of the image files under ``folder/below``, in order; folders that are links are not entered."""
    yield from files_with(folder, below, IMAGE_SUFFIXES)


def files_with(folder: Path, below: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Places of the regular files under ``folder/below`` with one of `suffixes`, in order."""
    for where, folders, names in os.walk(folder / below):
        folders.sort()
        for name in sorted(names):
            path = Path(where, name)
            if name.lower().endswith(suffixes) and is_regular(path):
                yield path.relative_to(folder).as_posix()


def read_lines(
    folder: Path, place: str, found: FindingList, largest: int = LARGEST_TEXT_BYTES
) -> list[str] | None:
    """The lines of a small text file; None, and a finding, where it cannot be one."""
    path = folder / place
    try:
        if not is_regular(path) or path.stat().st_size > largest:
            found.add("file-broken", place, f"no text file of at most {largest} bytes")
            return None
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        found.add("file-broken", place, "no UTF-8 text")
    except OSError as error:
        found.add("file-broken", place, error.strerror or "cannot be read")
    return None


def numbers_of(words: list[str]) -> list[float] | None:
    """The words as numbers; None where one is none."""
    try:
        return [float(word) for word in words]
    except ValueError:
        return None
