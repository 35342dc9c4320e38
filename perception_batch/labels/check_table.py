"""Checks of a training set against its ``images.parquet``: hashes, sizes, and groups that no split shares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from perception_batch.errors import printable
from perception_batch.labels.check_images import ImageTable, inside
from perception_batch.labels.check_report import FindingList, shown
from perception_batch.labels.checked_image import is_regular

TABLE = "images.parquet"
COLUMNS = ("split", "group", "file", "sha256", "width", "height")

_MOST_ROWS = 10_000_000
_LARGEST_ROW_GROUP_BYTES = 1 << 30


def check_table(folder: Path, images: ImageTable, found: FindingList) -> None:
    """Check every row, and that every image met so far has one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not is_regular(folder / TABLE):
        found.add("file-broken", TABLE, "no file that can be read")
        return
    groups: dict[str, str] = {}
    listed: set[str] = set()
    try:
        with pq.ParquetFile(folder / TABLE) as file:
            missing = [name for name in COLUMNS if name not in file.schema_arrow.names]
            if missing:
                found.add("file-broken", TABLE, f"lacks the columns {', '.join(missing)}")
                return
            facts = file.metadata
            sizes = (facts.row_group(i).total_byte_size for i in range(facts.num_row_groups))
            if facts.num_rows > _MOST_ROWS or max(sizes, default=0) > _LARGEST_ROW_GROUP_BYTES:
                found.add(
                    "file-broken", TABLE, f"{facts.num_rows} rows, or a row group, are too much to check"
                )
                return
            for batch in file.iter_batches(batch_size=4096, columns=list(COLUMNS)):
                for row in batch.to_pylist():
                    _check_row(folder, row, images, groups, listed, found)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        found.add("file-broken", TABLE, f"no Parquet table: {error}")
        return
    for place in images.places():
        if place not in listed:
            found.add("pair-missing", place, f"not in {TABLE}")


def _check_row(
    folder: Path,
    row: dict[str, Any],
    images: ImageTable,
    groups: dict[str, str],
    listed: set[str],
    found: FindingList,
) -> None:
    split, group = str(row["split"]), str(row["group"])
    first = groups.setdefault(group, split)
    if first != split:
        found.add(
            "split-overlap", TABLE, f"group {printable(group)} is in split {first} and in split {split}"
        )
    place = inside(row["file"])
    if place is None or not is_regular(folder / place):
        found.add("pair-missing", TABLE, f"lists {shown(row['file'])}, which is not there")
        return
    listed.add(place)
    facts = images.facts(place, split)
    if facts.sha256 and facts.sha256 != row["sha256"]:
        found.add("hash-differs", place, f"{facts.sha256}; {TABLE} says {row['sha256']!r:.80}")
    if facts.width_px and (facts.width_px, facts.height_px) != (row["width"], row["height"]):
        size = f"{shown(row['width'])}x{shown(row['height'])}"
        found.add("size-differs", place, f"{facts.width_px}x{facts.height_px}; {TABLE} says {size}")
