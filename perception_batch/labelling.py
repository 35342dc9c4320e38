"""Training sets from finished runs: what `perception-batch labels` does.

Two passes. The first reads the runs' tables and decides, for all images together, which are kept and where they go; it
holds some 60 bytes an image. The second reads the tables again beside the logs, each log once and in order, leaves out images
that show the same again, and writes.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from perception_batch import __version__
from perception_batch.config import parse_config
from perception_batch.errors import ConfigError, LogError, WriteError, printable
from perception_batch.job import Progress
from perception_batch.labelling_sources import RunSource, labelled_frames
from perception_batch.labelling_writer import SetWriter
from perception_batch.labels.card import CardFacts
from perception_batch.labels.groups import group_images
from perception_batch.labels.image_files import unique_names
from perception_batch.labels.label_run import ClassMap, LabelRun, class_table, set_classes
from perception_batch.labels.label_settings import LabelSettings
from perception_batch.labels.near_duplicates import SeenImages
from perception_batch.labels.run_rows import path_frame, read_path, read_tracks, stretches
from perception_batch.labels.scored_boxes import QUALITY
from perception_batch.labels.scoring import RunFacts, score_stretch
from perception_batch.labels.selection import (
    DUPLICATE,
    OUT,
    SIZE,
    Images,
    choose,
    joined,
    summarise,
    thin_out,
)
from perception_batch.labels.splits import Split, split_images
from perception_batch.labels.track_evidence import gather_evidence, in_classes_of_set
from perception_batch.replay import load_finished
from perception_batch.write import read_rig

MARKER = "UNFINISHED"
"""File in a training set's folder that is not whole yet."""


@dataclass(frozen=True, slots=True)
class LabelOutcome:
    """What was made."""

    folder: Path
    """Of the training set."""
    card: dict[str, object]
    """As in ``card.json``."""


def make_labels(
    run_dirs: Sequence[Path],
    out: Path,
    settings: LabelSettings,
    *,
    class_map: ClassMap | None = None,
    log_root: Path | None = None,
    overwrite: bool = False,
    command: Sequence[str] = (),
    progress: Progress | None = None,
) -> LabelOutcome:
    """Make a training set of finished runs.

    Args:
        run_dirs: folders ``OUT/<drive>``, or folders that hold such.
        out: the training set's folder.
        settings: how.
        class_map: a class of the set for each label of the runs.
        log_root: where the logs lie now, if they were moved.
        overwrite: replace a training set that is there.
        command: that made it, for the card.
        progress: hears of each image.

    Raises:
        ConfigError: settings that the runs do not fit, or runs that do not fit each other.
        LogError: no finished run, damaged tables, or a log that is not there or is another.
        WriteError: `out` exists, or the disk is full or refuses.
    """
    sources = open_runs(run_dirs, class_map, settings, log_root)
    classes = sources[0].facts.classes
    _check_names(classes, settings)
    images, split = plan(sources, classes, settings)
    _make_folder(out, overwrite)
    progress = progress or Progress()
    seen = SeenImages(settings.duplicate_bits) if settings.duplicate_bits >= 0 else None
    writer = SetWriter(out, classes, settings)
    progress.start(out.name, int(images.kept.sum()))
    try:
        with writer:
            for number, source in enumerate(sources):
                for item in labelled_frames(source, images, number, settings):
                    progress.advance(1)
                    if not item.fits:
                        images.out[item.row] = SIZE
                    elif seen is not None and not seen.is_new(item.camera, item.look):
                        images.out[item.row] = DUPLICATE
                    else:
                        writer.write(item, source, split)
            facts = _card_facts(sources, classes, images, split, settings, class_map, command)
            card = writer.finish(facts)
    finally:
        progress.stop()
    (out / MARKER).unlink()
    return LabelOutcome(out, card)


def open_runs(
    run_dirs: Sequence[Path], class_map: ClassMap | None, settings: LabelSettings, log_root: Path | None
) -> list[RunSource]:
    """Read what all passes need of each run."""
    directories = [found for directory in run_dirs for found in _runs_in(directory)]
    manifests = [load_finished(directory) for directory in directories]
    seen: dict[str, Path] = {}
    for directory, manifest in zip(directories, manifests, strict=True):
        fingerprint = str(manifest.log.get("fingerprint"))
        if fingerprint in seen:
            raise ConfigError(
                f"{printable(seen[fingerprint])} and {printable(directory)} are runs of one log; give one of them, or its "
                "images would stand in the set twice"
            )
        seen[fingerprint] = directory
    names = unique_names(manifest.drive for manifest in manifests)
    runs = []
    for directory, manifest, name in zip(directories, manifests, names, strict=True):
        config = parse_config(manifest.config, str(directory / "run.json"))
        rig = read_rig(directory)
        ground = manifest.calibration.get("ground_z_m")
        paths = [str(path) for path in manifest.log.get("paths") or ["log unknown"]]
        runs.append(
            LabelRun(
                directory,
                name,
                tuple(sorted({*rig.cameras, *rig.uncalibrated})),
                {int(key): str(value) for key, value in dict(manifest.model.get("labels") or {}).items()},
                tuple(config.detect.classes),
                config.build_ontology(),
                rig,
                float(ground) if isinstance(ground, (int, float)) else None,
                paths[0],
                str(manifest.log.get("fingerprint")),
                str(manifest.model.get("sha256", "")),
            )
        )
    classes = set_classes(runs, class_map)
    sources = []
    for run, manifest in zip(runs, manifests, strict=True):
        tracks = read_tracks(run.directory)
        evidence = gather_evidence(
            run.directory, run.cameras, tracks, run.labels, run.ontology, run.rig, run.ground_z_m
        )
        table = class_table(run, classes, class_map)
        evidence = in_classes_of_set(evidence, table)
        path = read_path(run.directory)
        if settings.min_distance_m and not len(path[0]):
            raise ConfigError(
                f"--min-distance-m needs the vehicle's motion, which {printable(run.directory)} does not know; use --every-s"
            )
        facts = RunFacts(evidence, table, classes, path)
        sources.append(RunSource(run, manifest, facts, log_root))
    return sources


def _runs_in(directory: Path) -> list[Path]:
    if (directory / "run.json").is_file() or not directory.is_dir():
        return [directory]
    inside = sorted(path.parent for path in directory.glob("*/run.json"))
    if not inside:
        raise LogError(directory, "holds no run: run.json is missing here and one folder down")
    return inside


def _check_names(classes: Sequence[str], settings: LabelSettings) -> None:
    for option, numbers in (
        ("--accept", settings.accept),
        ("--ignore", settings.ignore),
        ("--quota", settings.quota),
    ):
        for label in () if numbers is None else numbers.by_label:
            if label not in classes:
                raise ConfigError(
                    f"{option}: the set has no class {printable(label)}; it has {', '.join(map(printable, classes))}"
                )


def plan(
    sources: Sequence[RunSource], classes: tuple[str, ...], settings: LabelSettings
) -> tuple[Images, Split]:
    """Which images are kept, as far as tables tell, and where each goes."""
    parts = []
    best = 0.0
    for number, source in enumerate(sources):
        own = []
        for stretch in stretches(source.run.directory, source.run.cameras):
            boxes = score_stretch(stretch, source.facts, settings)
            best = max(best, float(boxes.quality[(boxes.why == 0) | (boxes.why == QUALITY)].max(initial=0.0)))
            own.append(summarise(number, stretch, boxes, classes, settings))
        if not own:
            continue
        of_run = joined(own)
        thin_out(of_run, settings, source.facts.path)
        parts.append(of_run)
    if not parts:
        raise LogError(sources[0].run.directory, "no camera frame was decoded in any of the runs")
    images = joined(parts)
    choose(images, classes, settings)
    if not images.kept.any():
        counts = Counter(OUT[code] for code in images.out.tolist())
        raise ConfigError(
            f"no image is left of {len(images)}: {', '.join(f'{name} {n}' for name, n in counts.most_common())}; "
            f"the best box on a track has quality {best:.2f}: lower --accept (and --ignore), or ask for less"
        )
    group, names = group_images(
        images,
        [source.run for source in sources],
        [source.facts.path for source in sources],
        [path_frame(source.run.directory) for source in sources],
        settings,
    )
    if not images.kept.any():
        raise ConfigError("--group-by place: no image has a position within 2 s; group by drive or day")
    return images, split_images(images, group, names, settings)


def _make_folder(out: Path, overwrite: bool) -> None:
    """An empty folder with the marker, where nothing is lost by it."""
    if out.is_dir() and any(out.iterdir()):
        unfinished, ours = (out / MARKER).is_file(), _is_set(out)
        if not (unfinished or (ours and overwrite)):
            raise WriteError(
                f"{printable(out)} holds a training set already; --overwrite replaces it, or choose another --out"
                if ours
                else f"{printable(out)} exists and is no training set of this program; choose another --out"
            )
        shutil.rmtree(out)
    elif out.exists() and not out.is_dir():
        raise WriteError(f"{printable(out)} is a file; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).write_text(
        "This training set is not whole; the same command makes it anew.\n", encoding="utf-8"
    )


def _is_set(out: Path) -> bool:
    try:
        return "boxes_not_accepted" in json.loads((out / "card.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _card_facts(
    sources: Sequence[RunSource],
    classes: tuple[str, ...],
    images: Images,
    split: Split,
    settings: LabelSettings,
    class_map: ClassMap | None,
    command: Sequence[str],
) -> CardFacts:
    counts = np.bincount(images.out, minlength=len(OUT)).tolist()
    return CardFacts(
        classes=classes,
        settings=settings.to_dict(),
        class_map=class_map,
        frames=len(images),
        left_out={name: n for name, n in zip(OUT[1:], counts[1:], strict=True) if n},
        runs=[
            {
                "drive": source.run.name,
                "directory": str(source.run.directory),
                "log": source.run.log,
                "fingerprint": source.run.fingerprint,
                "model_sha256": source.run.model_sha256,
            }
            for source in sources
        ],
        notes=split.notes,
        command=shlex.join(command) if command else "perception_batch.labelling.make_labels",
        version=__version__,
        licence=settings.licence,
    )
