"""The images of a run with their boxes, from its log and its tables: each log is read once, in order."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perception_batch import flow
from perception_batch.config import RunConfig, parse_config
from perception_batch.decode import decode_frame
from perception_batch.errors import ConfigError, LogError, printable
from perception_batch.grouped_log import grouped_log
from perception_batch.job import OpenDrive, open_drive
from perception_batch.labels.image_files import as_file, encoded
from perception_batch.labels.label_run import LabelRun
from perception_batch.labels.label_settings import LabelSettings
from perception_batch.labels.near_duplicates import Hash, hash_of_file, hash_of_image
from perception_batch.labels.run_rows import stretches
from perception_batch.labels.scored_boxes import ScoredBoxes
from perception_batch.labels.scoring import RunFacts, score_stretch
from perception_batch.labels.selection import Images
from perception_batch.replay import job_of
from perception_batch.shared_machine import decode_workers
from perception_batch.types import EncodedFrame, StillPayload
from perception_batch.write import Manifest


@dataclass(frozen=True, slots=True, eq=False)
class RunSource:
    """A run and what was gathered of it."""

    run: LabelRun
    manifest: Manifest
    facts: RunFacts
    log_root: Path | None
    """Where its log lies now; None: where it lay."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledFrame:
    """One image that is to be written, with all boxes of its frame."""

    row: int
    """Of `Images`."""
    camera: str
    stamp_ns: int
    timestep: int
    width_px: int
    height_px: int
    data: bytes | memoryview
    """The file."""
    suffix: str
    sha256: str
    source: str
    """``copied``, ``encoded``, or ``linked``."""
    link: Path | None
    """File with the same bytes, where a link is asked for."""
    look: Hash
    """For near duplicates."""
    fits: bool
    """False where the image has not the size that the run saw."""
    boxes: ScoredBoxes
    """Of its frame, dropped ones as well."""


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes | memoryview
    suffix: str
    sha256: str
    source: str
    link: Path | None
    look: Hash
    size_wh: tuple[int, int]


def labelled_frames(
    source: RunSource, images: Images, number: int, settings: LabelSettings
) -> Generator[LabelledFrame, None, None]:
    """The kept images of run `number`, in order.

    Raises:
        LogError: the log is not there, is another, or lacks an image.
        ConfigError: links are asked for and the log is no folder of image files.
    """
    rows = np.flatnonzero((images.run == number) & images.kept)
    if not len(rows):
        return
    run = source.run
    config = parse_config(source.manifest.config, str(run.directory / "run.json"))
    job = job_of(run.directory, source.manifest, config, source.log_root)
    index = None if settings.images == "copy" else _FileIndex(job.paths, settings.images)
    with ExitStack() as stack:
        opened = stack.enter_context(open_drive(job))
        if opened.log.fingerprint() != run.fingerprint:
            raise LogError(job.paths[0], "is not the log of this run: its fingerprint differs")

        def prepare(frame: EncodedFrame) -> _File:
            return _as_file(frame, config, settings, index)

        frames = _frames(opened, config, images, rows, run)
        files = flow.ordered_map(
            prepare, frames, workers=decode_workers(config), name="labels", limit_bytes=256 << 20,
            size_of=lambda frame: frame.size_bytes,
        )  # fmt: skip
        stack.enter_context(flow.closed(files))
        boxes = _boxes_of(source, images, rows, settings)
        for row, file, (found, size_wh) in zip(rows.tolist(), files, boxes, strict=True):
            yield LabelledFrame(
                row,
                run.cameras[int(images.camera[row])],
                int(images.stamp_ns[row]),
                int(images.timestep[row]),
                *size_wh,
                file.data,
                file.suffix,
                file.sha256,
                file.source,
                file.link,
                file.look,
                file.size_wh == size_wh,
                found,
            )


def _frames(
    opened: OpenDrive, config: RunConfig, images: Images, rows: np.ndarray, run: LabelRun
) -> Iterator[EncodedFrame]:
    """The wanted frames of the log, in the order of `rows`."""
    grouped = grouped_log(opened, config)
    wanted = zip(
        images.timestep[rows].tolist(),
        images.camera[rows].tolist(),
        images.stamp_ns[rows].tolist(),
        strict=True,
    )
    place = next(wanted, None)
    with flow.closed(grouped):
        for step in grouped:
            while place is not None and place[0] == step.frame_set.index:
                frame = step.frame_set.frames.get(run.cameras[place[1]])
                if frame is None or frame.stamp_ns != place[2]:
                    raise LogError(
                        opened.log.paths[0],
                        f"{printable(run.cameras[place[1]])} at {place[2]} ns is not in timestep {place[0]} as it was in "
                        "the run; run the drive again",
                    )
                yield frame
                place = next(wanted, None)
            if place is None:
                return
    raise LogError(
        opened.log.paths[0], f"ends before timestep {place[0] if place else 0} of the run; other log?"
    )


def _boxes_of(
    source: RunSource, images: Images, rows: np.ndarray, settings: LabelSettings
) -> Iterator[tuple[ScoredBoxes, tuple[int, int]]]:
    """Boxes and size of each wanted image."""
    at = 0
    many = len(source.run.cameras)
    keys = images.timestep[rows].astype(np.int64) * many + images.camera[rows]
    for stretch in stretches(source.run.directory, source.run.cameras):
        end = int(np.searchsorted(keys, stretch.stop * many))
        if end == at:
            continue
        boxes = score_stretch(stretch, source.facts, settings)
        box_key = boxes.timestep * many + boxes.camera
        frames = stretch.frames
        order = np.lexsort((frames.camera, frames.timestep))
        frame_key = (frames.timestep * many + frames.camera)[order]
        for key in keys[at:end].tolist():
            low, high = np.searchsorted(box_key, [key, key + 1]).tolist()
            frame = order[int(np.searchsorted(frame_key, key))]
            yield boxes.rows(slice(low, high)), (int(frames.width_px[frame]), int(frames.height_px[frame]))
        at = end


def _as_file(
    frame: EncodedFrame, config: RunConfig, settings: LabelSettings, index: _FileIndex | None
) -> _File:
    if isinstance(frame.payload, StillPayload):
        kept = as_file(frame.payload.data)
        look = None if kept is None else hash_of_file(kept[0])
        if kept is not None and look is not None:
            data, suffix = kept
            link = None
            if index is not None and len(data) == frame.payload.size_bytes:
                link = index.find(data)
            digest = hashlib.sha256(data).hexdigest()
            source = "copied" if link is None else "linked"
            return _File(data, suffix, digest, source, link, look, (frame.width_px, frame.height_px))
    own = config.camera(frame.camera).bit_depth
    rgb = decode_frame(
        frame, config.read.max_image_mpx, config.decode.bit_depth if own is None else own
    ).image
    data, suffix = encoded(rgb, settings.encode)
    size = (rgb.shape[1], rgb.shape[0])
    return _File(data, suffix, hashlib.sha256(data).hexdigest(), "encoded", None, hash_of_image(rgb), size)


class _FileIndex:
    """The files of a log that is a folder of images, by their bytes."""

    def __init__(self, paths: tuple[Path, ...], mode: str) -> None:
        self._by_size: dict[int, list[Path]] = {}
        for path in paths:
            if not isinstance(path, Path) or not path.is_dir():
                raise ConfigError(
                    f"--images {mode}: {printable(path)} holds its images in a container, there is no file to link to; "
                    "use --images copy"
                )
            for file in sorted(path.rglob("*")):
                if file.is_file():
                    self._by_size.setdefault(file.stat().st_size, []).append(file.resolve())

    def find(self, data: bytes | memoryview) -> Path | None:
        """A file that holds just these bytes."""
        for path in self._by_size.get(len(data), ()):
            if path.read_bytes() == data:
                return path
        return None
