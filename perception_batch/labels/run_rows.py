"""The tables of one finished run, streamed in stretches of timesteps: memory does not grow with the drive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from perception_batch.errors import LogError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

STRETCH = 256
"""Timesteps that are scored at once, between as many before and after them: 25 s at 10 Hz."""
NEWEST_SCHEMA = 1
"""Highest version of a run's tables that this room knows."""
REASONS = ("", "low_score", "ego_mask", "duplicate", "ghost", "class")
"""Why fusion set a detection aside, by the code in `BoxRows.aside`; empty: it did not."""
_ROWS_AT_ONCE = 16384
_MOST_UNUSED_IDS = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class FrameRows:
    """N camera frames that were decoded, by timestep and camera."""

    timestep: IntArray
    """(N,) of the run."""
    camera: IntArray
    """(N,) place in the run's list of cameras."""
    stamp_ns: IntArray
    """(N,) exposure, ns."""
    width_px: IntArray
    """(N,)."""
    height_px: IntArray
    """(N,)."""

    def __len__(self) -> int:
        return len(self.timestep)


@dataclass(frozen=True, slots=True, eq=False)
class BoxRows:
    """N boxes that detection kept, by timestep, camera and falling score."""

    timestep: IntArray
    """(N,) of the run."""
    camera: IntArray
    """(N,) place in the run's list of cameras."""
    stamp_ns: IntArray
    """(N,) exposure of the frame, ns."""
    detection: IntArray
    """(N,) row within its camera frame; -1: no detection stands behind the box."""
    xyxy: FloatArray
    """(N, 4) px of the original image."""
    score: FloatArray
    """(N,) the model's."""
    class_id: IntArray
    """(N,) the model's."""
    object: IntArray
    """(N,) object of the timestep, -1 for none."""
    track: IntArray
    """(N,) -1 for none."""
    aside: IntArray
    """(N,) place in `REASONS`."""

    def __len__(self) -> int:
        return len(self.timestep)

    def rows(self, picked: npt.NDArray[Any]) -> BoxRows:
        """Some of them."""
        return BoxRows(*(getattr(self, f.name)[picked] for f in fields(self)))


@dataclass(frozen=True, slots=True, eq=False)
class TrackRows:
    """N tracks of the whole run; the place of each is its number. Numbers that no track has are empty."""

    label: tuple[str, ...]
    """(N,) class that the run decided, by the ontology's name."""
    class_id: IntArray
    """(N,) the model's number of it; -1 where the model has none."""
    observed: IntArray
    """(N,) timesteps with at least one box."""
    filled: IntArray
    """(N,) timesteps in its gaps."""
    length_s: FloatArray
    """(N,) from its first timestep to its last."""


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Timesteps ``[start, stop)`` to label, with those about them to look at."""

    start: int
    """First timestep."""
    stop: int
    """First timestep that is not in it."""
    frames: FrameRows
    """Of the stretch and of its neighbours."""
    boxes: BoxRows
    """Of the stretch and of its neighbours."""


def read_tracks(directory: Path) -> TrackRows:
    """The tracks of a run.

    Raises:
        LogError: the table is missing, damaged, of a newer version, or its ids make no sense.
    """
    path = directory / "tracks.parquet"
    columns = ("track_id", "label", "class_id", "observed", "filled", "first_stamp_ns", "last_stamp_ns")
    table = _Table(path, columns, ("label",))
    rows = table.take(None)
    ids = rows["track_id"]
    count = int(ids.max(initial=-1)) + 1
    if len(ids) and (int(ids.min()) < 0 or count > len(ids) + _MOST_UNUSED_IDS):
        raise LogError(
            path, f"its tracks are numbered up to {count - 1}, and there are {len(ids)}; run `fuse` again"
        )
    # A track that was given up and found again has a row for each part: the longest part tells its class.
    first, last = np.full(count, np.iinfo(np.int64).max), np.zeros(count, np.int64)
    np.minimum.at(first, ids, rows["first_stamp_ns"])
    np.maximum.at(last, ids, rows["last_stamp_ns"])
    of_id = np.full(count, -1, np.int64)
    order = np.argsort(rows["observed"], kind="stable")
    of_id[ids[order]] = order
    words = [str(word) for word in table.words["label"]]
    known = of_id >= 0
    return TrackRows(
        tuple(words[rows["label"][row]] if row >= 0 else "" for row in of_id.tolist()),
        np.where(known, rows["class_id"][of_id], -1) if len(ids) else np.zeros(0, np.int64),
        np.bincount(ids, weights=rows["observed"], minlength=count).astype(np.int64),
        np.bincount(ids, weights=rows["filled"], minlength=count).astype(np.int64),
        np.where(known, last - first, 0) * 1e-9,
    )


def read_path(directory: Path, step_s: float = 0.1) -> tuple[IntArray, FloatArray]:
    """(N,) stamps and (N, 3) places of the vehicle in its fixed frame, thinned to one in `step_s`; no rows: unknown."""
    columns = ("stamp_ns", "x_m", "y_m", "z_m")
    table = _Table(directory / "ego.parquet", columns, ())
    stamps: list[IntArray] = []
    places: list[FloatArray] = []
    for rows in table.batches():
        slot = rows["stamp_ns"] // round(step_s * 1e9)
        first = np.flatnonzero(
            np.diff(slot, prepend=-1 if not stamps else int(stamps[-1][-1] // round(step_s * 1e9)))
        )
        stamps.append(rows["stamp_ns"][first])
        places.append(np.stack([rows[name][first] for name in columns[1:]], axis=1))
    if not stamps:
        return np.zeros(0, np.int64), np.zeros((0, 3))
    return np.concatenate(stamps), np.concatenate(places)


def stretches(directory: Path, cameras: Sequence[str]) -> Iterator[Stretch]:
    """The run's timesteps in order, each once, in stretches.

    Args:
        directory: ``OUT/<drive>``.
        cameras: names of all cameras of the run.

    Raises:
        LogError: a table is missing, damaged, of a newer version, or they do not belong together.
    """
    source = _halves(directory, cameras)
    before: tuple[FrameRows, BoxRows] | None = None
    now = next(source, None)
    start = 0
    while now is not None:
        after = next(source, None)
        parts = [part for part in (before, now, after) if part is not None]
        yield Stretch(
            start,
            start + STRETCH,
            _joined(FrameRows, [frames for frames, _ in parts]),
            _joined(BoxRows, [boxes for _, boxes in parts]),
        )
        before, now, start = now, after, start + STRETCH


def _joined(kind: Any, parts: Sequence[Any]) -> Any:
    return kind(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(kind)))


def _halves(directory: Path, cameras: Sequence[str]) -> Iterator[tuple[FrameRows, BoxRows]]:
    """One stretch after the other, without neighbours."""
    steps = _Table(
        directory / "timesteps.parquet",
        ("timestep", "camera", "stamp_ns", "offset_ns", "status", "width", "height", "detections"),
        ("camera", "status"),
    )
    boxes = _Table(
        directory / "detections.parquet",
        ("timestep", "camera", "frame_stamp_ns", "detection", "x1", "y1", "x2", "y2", "score", "class_id"),
        ("camera",),
    )
    seen = _Table(
        directory / "observations.parquet",
        ("timestep", "camera", "detection", "object", "track_id", "suppressed"),
        ("camera", "suppressed"),
    )
    places = {name: i for i, name in enumerate(cameras)}
    stop = 0
    while not steps.ended:
        stop += STRETCH
        step, box, saw = steps.take(stop), boxes.take(stop), seen.take(stop)
        camera = _codes(box["camera"], boxes.words["camera"], places)
        same = len(saw["timestep"]) == len(camera) and (
            (saw["timestep"] == box["timestep"]).all()
            and (saw["detection"] == box["detection"]).all()
            and (_codes(saw["camera"], seen.words["camera"], places) == camera).all()
        )
        if not same:
            raise LogError(seen.path, "does not agree with detections.parquet; run `fuse` again")
        status = np.array([word in ("ok",) for word in steps.words["status"]] or [False])[step["status"]]
        step_camera = _codes(step["camera"], steps.words["camera"], places)
        frames = FrameRows(
            *(
                column[status]
                for column in (
                    step["timestep"],
                    step_camera,
                    step["stamp_ns"] + step["offset_ns"],
                    step["width"],
                    step["height"],
                )
            )
        )
        # What is held is an older frame again: it was labelled where it was new.
        many = len(cameras) + 1
        kept = np.isin(box["timestep"] * many + camera, frames.timestep * many + frames.camera)
        aside = _codes(saw["suppressed"], seen.words["suppressed"], {w: i for i, w in enumerate(REASONS)})
        rows = BoxRows(
            box["timestep"],
            camera,
            box["frame_stamp_ns"],
            box["detection"],
            np.stack([box[name] for name in ("x1", "y1", "x2", "y2")], axis=1),
            box["score"],
            box["class_id"],
            saw["object"],
            saw["track_id"],
            aside,
        )
        yield frames, rows.rows(kept)
    if len(boxes.take(None)["timestep"]):
        raise LogError(boxes.path, "has boxes of timesteps that timesteps.parquet lacks")


def _codes(codes: IntArray, words: Sequence[str], places: Mapping[str, int]) -> IntArray:
    """Codes of a table's own dictionary as places in a list that all tables share; null is place 0."""
    table = np.array([places.get(word, -1) for word in words] + [0], np.int64)
    return table[codes]


class _Table:
    """Goes through one Parquet file once, from front to back. Text becomes codes into `words`; null is -1 or NaN."""

    def __init__(self, path: Path, columns: Sequence[str], text: Sequence[str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = path
        self.words: dict[str, list[str]] = {name: [] for name in text}
        self._columns = columns
        self._numbers: dict[str, dict[str, int]] = {name: {} for name in text}
        try:
            self._file: pq.ParquetFile = pq.ParquetFile(path)
        except FileNotFoundError:
            raise LogError(
                path, "is missing, so this is no run, or one that never finished; run it again"
            ) from None
        except (pa.ArrowException, OSError) as error:
            raise LogError(path, f"cannot be read: {' '.join(str(error).split())}") from None
        schema = self._file.schema_arrow
        version = (schema.metadata or {}).get(b"schema", b"1")
        if not version.isdigit() or int(version) > NEWEST_SCHEMA:
            raise LogError(
                path, f"schema {version!r} is of a newer version; update perception_batch to read it"
            )
        if missing := set(columns) - set(schema.names):
            raise LogError(path, f"columns missing: {', '.join(sorted(missing))}")
        self._source = self._read()
        self._pending: dict[str, npt.NDArray[Any]] | None = next(self._source, None)

    @property
    def ended(self) -> bool:
        """True where nothing is left."""
        return self._pending is None

    def batches(self) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """All that is left, batch by batch."""
        while self._pending is not None:
            rows, self._pending = self._pending, next(self._source, None)
            yield rows

    def take(self, stop: int | None) -> dict[str, npt.NDArray[Any]]:
        """The rows that come before timestep `stop`; None: all that are left."""
        parts = []
        while self._pending is not None:
            rows = self._pending
            n = len(rows[self._columns[0]])
            cut = n if stop is None else int(np.searchsorted(rows["timestep"], stop))
            parts.append({name: values[:cut] for name, values in rows.items()})
            if cut < n:
                self._pending = {name: values[cut:] for name, values in rows.items()}
                break
            self._pending = next(self._source, None)
        if not parts:
            parts = [{name: np.zeros(0, np.int64) for name in self._columns}]
        return {name: np.concatenate([part[name] for part in parts]) for name in self._columns}

    def _read(self) -> Iterator[dict[str, npt.NDArray[Any]]]:
        import pyarrow as pa

        try:
            for batch in self._file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=list(self._columns)):
                if batch.num_rows:
                    yield {
                        name: self._array(name, batch.column(batch.schema.get_field_index(name)))
                        for name in self._columns
                    }
        except (pa.ArrowException, OSError) as error:
            raise LogError(self.path, f"damaged: {' '.join(str(error).split())}") from None
        finally:
            self._file.close()

    def _array(self, name: str, column: Any) -> npt.NDArray[Any]:
        import pyarrow as pa

        if name in self.words:
            own = column.dictionary_encode()
            numbers, words = self._numbers[name], self.words[name]
            for word in own.dictionary.to_pylist():
                if word not in numbers:
                    numbers[word] = len(words)
                    words.append(word)
            table = np.array([numbers[word] for word in own.dictionary.to_pylist()] + [-1], np.int64)
            return table[np.asarray(own.indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)]
        if pa.types.is_integer(column.type):
            # Filled before the change to NumPy: with nulls it would go through float64 and lose nanoseconds.
            return np.asarray(column.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
        return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)


def path_frame(directory: Path) -> str:
    """The fixed frame of the vehicle's path; empty where it is unknown."""
    table = _Table(directory / "ego.parquet", ("frame_id",), ("frame_id",))
    for _ in table.batches():
        return str(table.words["frame_id"][0])
    return ""
