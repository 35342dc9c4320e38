"""Results to files: Parquet tables, JSON lines, the video and the manifest; and runs read back."""

from __future__ import annotations

from perception_batch.write.annotation_scene import AnnotationFacts
from perception_batch.write.annotations import (
    annotation_writers,
    check_annotation_packages,
    remove_annotations,
)
from perception_batch.write.atomic import write_whole
from perception_batch.write.drawn_from import drawn_from
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
