"""Files that appear whole; what they are stands on the ground floor, because other rooms write files too."""

from perception_batch.atomic import (
    PARTIAL_SUFFIX,
    AtomicFile,
    disk_errors,
    put_in_place,
    sync_directory,
    write_whole,
)

__all__ = [
    "PARTIAL_SUFFIX",
    "AtomicFile",
    "disk_errors",
    "put_in_place",
    "sync_directory",
    "write_whole",
]
