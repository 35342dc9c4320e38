"""The containers that written logs are put into: ROS 1 bags, rosbag2 folders (sqlite3, MCAP)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

import yaml

Container = Literal["mcap", "sqlite3", "bag1"]


def write_bag1(folder: Path, name: str, parts: list[list[Any]], store: Any, compress: bool) -> Path:
    """ROS 1 bags, one a part: the file, or the folder that holds them."""
    from rosbags.rosbag1 import Writer

    for i, part in enumerate(parts):
        path = folder / (f"{name}.bag" if len(parts) == 1 else f"{name}_{i}.bag")
        writer = Writer(path)
        if compress:
            writer.set_compression(Writer.CompressionFormat.BZ2)
        with writer:
            connections: dict[str, Any] = {}
            for log_ns, topic, msgtype, message in part:
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, msgtype, typestore=store)
                data = (
                    message if isinstance(message, bytes) else bytes(store.serialize_ros1(message, msgtype))
                )
                writer.write(connections[topic], log_ns, data)
    return folder / f"{name}.bag" if len(parts) == 1 else folder


def write_rosbag2(
    folder: Path,
    name: str,
    parts: list[list[Any]],
    store: Any,
    container: Container,
    metadata: bool,
    compress_messages: bool,
    compress_chunks: bool,
) -> Path:
    """A rosbag2 folder with one file a part."""
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

    plugin = StoragePlugin.MCAP if container == "mcap" else StoragePlugin.SQLITE3
    suffix = ".mcap" if container == "mcap" else ".db3"
    final = folder / name
    infos = []
    for i, part in enumerate(parts):
        target = final if len(parts) == 1 else folder / f"{name}_part" / f"{name}_{i}"
        target.parent.mkdir(parents=True, exist_ok=True)
        writer = Writer(target, version=9, storage_plugin=plugin)
        if compress_messages:
            writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
        elif compress_chunks:
            writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        with writer:
            connections: dict[str, Any] = {}
            for log_ns, topic, msgtype, message in part:
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, msgtype, typestore=store)
                data = message if isinstance(message, bytes) else bytes(store.serialize_cdr(message, msgtype))
                writer.write(connections[topic], log_ns, data)
        infos.append(yaml.safe_load((target / "metadata.yaml").read_text())["rosbag2_bagfile_information"])
        if len(parts) > 1:
            final.mkdir(exist_ok=True)
            (target / f"{name}_{i}{suffix}").rename(final / f"{name}_{i}{suffix}")
    if len(parts) > 1:
        shutil.rmtree(folder / f"{name}_part")
        (final / "metadata.yaml").write_text(
            yaml.safe_dump({"rosbag2_bagfile_information": _common(infos, name, suffix)})
        )
    if not metadata:
        (final / "metadata.yaml").unlink()
    return final


def _common(infos: list[dict[str, Any]], name: str, suffix: str) -> dict[str, Any]:
    """One metadata.yaml for several files."""
    out = dict(infos[0])
    starts = [i["starting_time"]["nanoseconds_since_epoch"] for i in infos]
    stops = [s + i["duration"]["nanoseconds"] for s, i in zip(starts, infos, strict=True)]
    topics: dict[str, Any] = {}
    for info in infos:
        for entry in info["topics_with_message_count"]:
            topic = entry["topic_metadata"]["name"]
            if topic in topics:
                topics[topic]["message_count"] += entry["message_count"]
            else:
                topics[topic] = {**entry}
    paths = [f"{name}_{i}{suffix}" for i in range(len(infos))]
    out.update(
        relative_file_paths=paths,
        files=[
            {
                "path": path,
                "starting_time": {"nanoseconds_since_epoch": start},
                "duration": {"nanoseconds": stop - start},
                "message_count": info["message_count"],
            }
            for path, start, stop, info in zip(paths, starts, stops, infos, strict=True)
        ],
        starting_time={"nanoseconds_since_epoch": min(starts)},
        duration={"nanoseconds": max(stops) - min(starts)},
        message_count=sum(i["message_count"] for i in infos),
        topics_with_message_count=list(topics.values()),
    )
    return out
