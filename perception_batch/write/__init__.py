"""Results to files: Parquet tables, JSON lines, the video and the manifest; and runs read back.

The names below load when first used: a manifest is read without Parquet, and a run without a video needs no encoder.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from perception_batch.write.drawn_from import drawn_from  # a module of the same name is here at once

if TYPE_CHECKING:
    from perception_batch.write.annotation_scene import AnnotationFacts
    from perception_batch.write.annotations import (
        annotation_writers,
        check_annotation_packages,
        remove_annotations,
    )
    from perception_batch.write.atomic import write_whole
    from perception_batch.write.manifest import Manifest, read_manifest, write_manifest, write_rig
    from perception_batch.write.rows import DriveFacts
    from perception_batch.write.schemas import ALL_TABLES, SCHEMA_VERSION
    from perception_batch.write.stored import (
        StoredTimestep,
        read_ego,
        read_facts,
        read_rig,
        read_stored_timesteps,
    )
    from perception_batch.write.tables import (
        ChangesWriter,
        EgoWriter,
        FramesWriter,
        ResultTableWriter,
        TracksWriter,
    )
    from perception_batch.write.timesteps_jsonl import JsonLinesWriter, read_timesteps
    from perception_batch.write.video import VideoWriter
    from perception_batch.write.video_parts import VideoParts, clear_video_parts
    from perception_batch.write.videos import DriveVideos, remove_videos
    from perception_batch.write.writer import Writer, WriterGroup

__all__ = [
    "ALL_TABLES",
    "SCHEMA_VERSION",
    "AnnotationFacts",
    "ChangesWriter",
    "DriveFacts",
    "DriveVideos",
    "EgoWriter",
    "FramesWriter",
    "JsonLinesWriter",
    "Manifest",
    "ResultTableWriter",
    "StoredTimestep",
    "TracksWriter",
    "VideoParts",
    "VideoWriter",
    "Writer",
    "WriterGroup",
    "annotation_writers",
    "check_annotation_packages",
    "clear_video_parts",
    "drawn_from",
    "read_ego",
    "read_facts",
    "read_manifest",
    "read_rig",
    "read_stored_timesteps",
    "read_timesteps",
    "remove_annotations",
    "remove_videos",
    "write_manifest",
    "write_rig",
    "write_whole",
]

_WHERE = {
    "annotation_scene": ("AnnotationFacts",),
    "annotations": ("annotation_writers", "check_annotation_packages", "remove_annotations"),
    "atomic": ("write_whole",),
    "manifest": ("Manifest", "read_manifest", "write_manifest", "write_rig"),
    "rows": ("DriveFacts",),
    "schemas": ("ALL_TABLES", "SCHEMA_VERSION"),
    "stored": ("StoredTimestep", "read_ego", "read_facts", "read_rig", "read_stored_timesteps"),
    "tables": ("ChangesWriter", "EgoWriter", "FramesWriter", "ResultTableWriter", "TracksWriter"),
    "timesteps_jsonl": ("JsonLinesWriter", "read_timesteps"),
    "video": ("VideoWriter",),
    "video_parts": ("VideoParts", "clear_video_parts"),
    "videos": ("DriveVideos", "remove_videos"),
    "writer": ("Writer", "WriterGroup"),
}
_MODULES = {name: module for module, names in _WHERE.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
