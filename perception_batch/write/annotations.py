"""The files for viewers that a run may leave beside its tables: which, how they are opened, and how they go."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from perception_batch.write import annotation_mcap, annotation_rerun, annotation_rosbag
from perception_batch.write.annotation_scene import AnnotationFacts
from perception_batch.write.atomic import PARTIAL_SUFFIX, disk_errors
from perception_batch.write.writer import Writer

_FILES = (annotation_mcap.FILE_NAME, annotation_rerun.FILE_NAME)
_FOLDERS = (annotation_rosbag.DIRECTORY_NAME,)


class AnnotationSettings(Protocol):
    """What this file takes of the section `write` of the settings."""

    @property
    def mcap(self) -> bool:
        """Whether ``annotations.mcap`` is wanted."""

    @property
    def rosbag(self) -> bool:
        """Whether ``annotations_rosbag2`` is wanted."""

    @property
    def rerun(self) -> bool:
        """Whether ``annotations.rrd`` is wanted."""


def check_annotation_packages(settings: AnnotationSettings) -> None:
    """Whether what is wanted can be written; to be asked before a run begins.

    Raises:
        ConfigError: a package is not installed; says how.
    """
    if settings.rerun:
        annotation_rerun.check_rerun()


def annotation_writers(
    directory: Path, about: AnnotationFacts, settings: AnnotationSettings
) -> list[Callable[[], Writer]]:
    """What opens the writers of the files that are wanted."""
    openers: list[Callable[[], Writer]] = []
    if settings.mcap:
        openers.append(partial(annotation_mcap.McapAnnotationWriter, directory, about))
    if settings.rosbag:
        openers.append(partial(annotation_rosbag.RosbagAnnotationWriter, directory, about))
    if settings.rerun:
        openers.append(partial(annotation_rerun.RerunAnnotationWriter, directory, about))
    return openers


def remove_annotations(directory: Path) -> None:
    """Remove the files for viewers of an earlier run, whole or not.

    Raises:
        WriteError: the place is read-only.
    """
    with disk_errors(directory):
        for name in _FILES:
            for path in (directory / name, directory / (name + PARTIAL_SUFFIX)):
                path.unlink(missing_ok=True)
        for name in _FOLDERS:
            for path in (directory / name, directory / (name + PARTIAL_SUFFIX)):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
