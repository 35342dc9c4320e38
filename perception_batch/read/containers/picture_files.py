"""Whether a folder holds the pictures of a drive as files, without a log."""

from __future__ import annotations

from pathlib import Path


def holds_pictures(folder: Path) -> bool:
    """True for a folder that holds videos, or folders of images; `open_log` says what is wrong with them."""
    from perception_batch.read.containers.image_folder import is_image_folder
    from perception_batch.read.containers.video_file import SUFFIXES

    return any(entry.suffix.lower() in SUFFIXES for entry in folder.iterdir()) or is_image_folder(folder)
