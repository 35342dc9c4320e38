"""The figures of fusion and tracks on simulated drives with exact truth, in one table.

    python scripts/benchmark_fusion.py [--quick] [--seeds 1 2 3] [--duration 40] [--cache DIR] [--set track.lag_s=2]

Truth boxes of drawn drives go through a detector's noise (none, correlated, independent), the fuser and the tracker;
what comes out is scored by the functions of ``perception-batch evaluate``. Truth is drawn once, without pictures and
log, and kept in the cache. Costs are CPU time of one thread. Intervals: 95 %, bootstrap over truth objects (positions,
merges), smallest and largest seed (identities).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # costs are those of one thread
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import scipy.optimize  # noqa: F401  (a run pays for the import once, not in its first timestep)
from benchmark_truth import make_truth

from perception_batch.calibration import Rig
from perception_batch.config import RunConfig, load_config
from perception_batch.evaluate.bootstrap import interval, weighted_share
from perception_batch.evaluate.merges import Pairs, collect_pairs
from perception_batch.evaluate.pairing import PairedStep, pair
from perception_batch.evaluate.positions import (
    Located,
    covered,
    locate,
    object_votes,
    positions_at,
    range_error,
)
from perception_batch.evaluate.report import Skipped, TrackFigures
from perception_batch.evaluate.run_tables import RunPicture, RunStep, RunTables
from perception_batch.evaluate.settings import EvaluateSettings
from perception_batch.evaluate.tables import read_columns
from perception_batch.evaluate.tracks import NEAR_M, NEAR_SHARE, score_tracks
from perception_batch.evaluate.truth import Classes, Truth, read_truth
from perception_batch.fusion import Join, Seen, open_fuser
from perception_batch.objects import STEPS_AT_ONCE
from perception_batch.simulate.detector_noise import (
    LABELS,
    CorrelatedNoise,
    DetectorNoise,
    IndependentNoise,
    NoiseSettings,
    noise_detections,
)
from perception_batch.simulate.rigs import rig_of
from perception_batch.simulate.settings import SimulateSettings
from perception_batch.simulate.truth_boxes import truth_images
from perception_batch.track import open_tracker
from perception_batch.types import Detections, EgoPose, FloatArray, TimestepResult

NOISES = ("clean", "correlated", "independent")
OLD_TRACK_S = 3.0


@dataclass(frozen=True, slots=True)
class Drive:
    """One drawn drive."""

    settings: SimulateSettings
    folder: Path
    truth: Truth
    egos: tuple[EgoPose, ...]
    speeds: dict[tuple[int, str], FloatArray]
    """By cycle and object: velocity over ground in base axes."""

    @property
    def rig(self) -> Rig:
        """Its cameras."""
        return rig_of(self.settings)


@dataclass(slots=True)
class Run:
    """What one run made of one drive."""

    steps: list[PairedStep]
    tracks: TrackFigures | Skipped
    located: Located
    kinematics: dict[tuple[int, int], FloatArray]
    """By frame and truth object: lateral, radial and two velocity errors, and the range."""
    fuse_ms: FloatArray
    track_ms: FloatArray
    pairs: Pairs = field(init=False)

    def __post_init__(self) -> None:
        self.pairs = collect_pairs(self.steps)


def open_drive(cache: Path, settings: SimulateSettings, classes: Classes) -> Drive:
    """The truth of one drive, drawn where the cache lacks it."""
    folder = make_truth(cache, settings)
    truth = read_truth(folder, classes)
    names = ("cycle_ns", "x_m", "y_m", "z_m", "qx", "qy", "qz", "qw", "vx_mps", "vy_mps", "vz_mps")
    ego = read_columns(folder / "ego.parquet", names)
    from perception_batch.geometry import SE3

    egos = tuple(
        EgoPose(int(t), "odom", SE3.from_quaternion(q, p), v, "tf")
        for t, p, q, v in zip(
            ego["cycle_ns"],
            np.stack([ego[n] for n in names[1:4]], axis=1),
            np.stack([ego[n] for n in names[4:8]], axis=1),
            np.stack([ego[n] for n in names[8:]], axis=1),
            strict=True,
        )
    )
    objects = read_columns(folder / "objects.parquet", ("cycle", "object_id", "vx_mps", "vy_mps"))
    speeds = {
        (int(c), str(i)): np.array([x, y]) for c, i, x, y in zip(*(objects[n] for n in objects), strict=True)
    }
    return Drive(settings, folder, truth, egos, speeds)


def noise_of(kind: str, seed: int) -> DetectorNoise:
    """A detector's mistakes."""
    if kind == "clean":
        return IndependentNoise(seed, NoiseSettings.clean())
    return CorrelatedNoise(seed) if kind == "correlated" else IndependentNoise(seed)


def detections_of(drive: Drive, kind: str) -> list[dict[str, Detections]]:
    """By cycle, then camera."""
    out: list[dict[str, Detections]] = [{} for _ in drive.egos]
    images = truth_images(drive.folder)
    for timestep, camera, found in noise_detections(images, noise_of(kind, drive.settings.seed)):
        out[timestep][camera] = found
    return out


def run_drive(
    drive: Drive,
    found: Sequence[dict[str, Detections]],
    config: RunConfig,
    classes: Classes,
    settings: EvaluateSettings,
) -> Run:
    """Fuse, track and score."""
    rig, ontology = drive.rig, config.build_ontology()
    fuser = open_fuser(rig, ontology, LABELS, config.fuse)
    tracker = open_tracker(rig, ontology, config.track)
    mounts = {name: camera.base_SE3_camera for name, camera in rig.cameras.items()}
    size = {n: (c.intrinsics.height_px, c.intrinsics.width_px) for n, c in rig.cameras.items()}
    fuse_ms, track_ms, results, look_ms = [], [], [], 0.0
    joins: list[Join] = []
    for index, (ego, boxes) in enumerate(zip(drive.egos, found, strict=True)):
        if not joins:  # as `perception-batch fuse` does
            some = range(index, min(index + STEPS_AT_ONCE, len(found)))
            seen = [
                Seen(
                    found[i],
                    {n: size[n] for n in found[i]},
                    {n: mounts[n] for n in found[i]},
                    drive.egos[i].stamp_ns,
                    dict.fromkeys(found[i], drive.egos[i].stamp_ns),
                )
                for i in some
            ]
            start = time.process_time()
            joins = list(fuser.look(seen))
            look_ms = 1e3 * (time.process_time() - start) / len(some)
        start = time.process_time()
        asked = tracker.predictions(ego.stamp_ns, ego)
        middle = time.process_time()
        fusion = joins.pop(0)(asked)
        end = time.process_time()
        result = TimestepResult(
            index, ego.stamp_ns, dict.fromkeys(boxes, "ok"), dict.fromkeys(boxes, ego.stamp_ns), boxes, fusion,
            ego, {n: size[n] for n in boxes},
        )  # fmt: skip
        again = time.process_time()
        results += tracker.push(result)
        fuse_ms.append(look_ms + 1e3 * (end - middle))
        track_ms.append(1e3 * (middle - start + time.process_time() - again))
        tracker.take_finished()
    results += tracker.flush()
    steps = pair(tables_of(results, classes, config), drive.truth, classes, settings)
    asked_classes = frozenset(classes.number(label) for label in config.detect.classes)
    tracks = score_tracks(
        steps, drive.truth, classes, settings, asked_classes, has_tracks=True, has_positions=True
    )
    kinematics = kinematics_of(steps, results, drive, settings)
    located = locate(steps, drive.truth, settings)
    return Run(steps, tracks, located, kinematics, np.array(fuse_ms), np.array(track_ms))


def tables_of(results: Sequence[TimestepResult], classes: Classes, config: RunConfig) -> RunTables:
    """Results as the evaluation reads them from a run's tables."""
    number = {label: classes.number(label) for label in LABELS.values()}
    by_id = {class_id: number[label] for class_id, label in LABELS.items()}
    steps = []
    for result in results:
        objects = result.fusion.objects
        pictures = tuple(
            RunPicture(
                camera,
                result.frame_stamps_ns[camera],
                found.xyxy.astype(np.float64),
                found.score.astype(np.float64),
                np.array([by_id[c] for c in found.class_id.tolist()], np.int64),
                result.fusion.object_of[camera].astype(np.int64),
            )
            for camera, found in sorted(result.detections.items())
        )
        steps.append(
            RunStep(
                result.index,
                result.stamp_ns,
                pictures,
                np.arange(len(objects)),
                np.array([o.track_id for o in objects], np.int64),
                np.array([number[o.label] for o in objects], np.int64),
                np.array([o.position_m for o in objects]).reshape(-1, 3),
                np.array([o.covariance_m2[:2, :2] for o in objects]).reshape(-1, 2, 2),
                np.array([o.filled for o in objects], bool),
            )
        )
    cameras = tuple(sorted({p.camera for s in steps for p in s.pictures}))
    asked = frozenset(number[label] for label in config.detect.classes)
    return RunTables(Path(), "drive", tuple(steps), cameras, asked)


def kinematics_of(
    steps: Sequence[PairedStep], results: Sequence[TimestepResult], drive: Drive, settings: EvaluateSettings
) -> dict[tuple[int, int], FloatArray]:
    """Errors across and along the line of sight and of the velocity, of the objects that positions are scored of."""
    out: dict[tuple[int, int], FloatArray] = {}
    for step, result in zip(steps, results, strict=True):
        votes, counting = object_votes(step)
        where = positions_at(drive.truth, step.frame, step.run.stamp_ns)
        for number, counter in votes.items():
            identity = max(counter, key=lambda who: (counter[who], -list(counter).index(who)))
            item = result.fusion.objects[number]
            if identity not in counting or identity not in where or item.track_id < 0:
                continue
            true = where[identity][1][:2]
            reach = float(np.hypot(*true))
            if not 0 < reach <= settings.max_range_m or not item.has_position:
                continue
            along = true / reach
            apart = item.position_m[:2] - true
            speed = drive.speeds[step.frame, drive.truth.object_names[identity]]
            off = item.velocity_mps[:2] - speed
            out[step.frame, identity] = np.array(
                [along[0] * apart[1] - along[1] * apart[0], along @ apart, *off, reach]
            )
    return out


def rms(values: FloatArray) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(values**2))) if len(values) else float("nan")


def compare(with_lag: Sequence[Run], without: Sequence[Run]) -> dict[str, tuple[float, float, int]]:
    """RMSE with and without the lag over what both have tracked, and (`right`) where neither is farther off than
    identities are scored with.

    Farther off are boxes taken for another thing's. Hindsight mends some of those mistakes, which is a part of what it is
    worth; without them remains what smoothing does to a right track.
    """
    rows: list[FloatArray] = []
    for one, other in zip(with_lag, without, strict=True):
        both = [k for k in one.kinematics if k in other.kinematics]
        rows += [np.stack([one.kinematics[k], other.kinematics[k]]) for k in both]
    table = np.array(rows)
    table = table[np.isfinite(table).all(axis=(1, 2))]
    tracked = np.hypot(table[:, :, 0], table[:, :, 1]) <= np.maximum(NEAR_M, NEAR_SHARE * table[:, :, 4])
    out: dict[str, tuple[float, float, int]] = {}
    for of, use in (("", slice(None)), (", right", tracked.all(axis=1))):
        rows_of = table[use]
        speed = np.hypot(rows_of[:, :, 2], rows_of[:, :, 3])
        figures = {
            "lateral position, m": rows_of[:, :, 0],
            "range, m": rows_of[:, :, 1],
            "velocity, m/s": speed,
        }
        out |= {f"{name}{of}": (rms(v[:, 0]), rms(v[:, 1]), len(v)) for name, v in figures.items()}
    return out


def located_rows(runs: Sequence[Run]) -> Located:
    """All seeds as one; objects keep numbers of their own."""
    parts = [replace(run.located, objects=run.located.objects + 1_000_000 * i) for i, run in enumerate(runs)]
    columns = ("objects", "classes", "true_m", "found_m", "covariance_m2", "track_age_s")
    joined: dict[str, Any] = {n: np.concatenate([getattr(p, n) for p in parts]) for n in columns}
    return Located(**joined, without=sum(p.without for p in parts))


def merge_row(runs: Sequence[Run]) -> str:
    """Precision, recall and F1 of all seeds together."""
    objects = np.concatenate([run.pairs.objects + 1_000_000 * i for i, run in enumerate(runs)])
    same = np.concatenate([run.pairs.same for run in runs]).astype(float)
    fused = np.concatenate([run.pairs.fused for run in runs]).astype(float)

    def f1(weights: FloatArray) -> float:
        total = float((weights * (same + fused)).sum())
        return 2 * float((weights * same * fused).sum()) / total if total else float("nan")

    right = (same * fused).sum()
    low, high = interval(objects, f1, resamples=300, seed=0) or (float("nan"),) * 2
    return (
        f"merges         precision {right / max(1, fused.sum()):.4f}  recall {right / max(1, same.sum()):.4f}  "
        f"F1 {f1(np.ones(len(same))):.4f} [{low:.3f}, {high:.3f}]  (n = {int(same.sum())} pairs)"
    )


def identity_row(runs: Sequence[Run]) -> str:
    """IDF1 and MOTA by seed."""
    figures = [run.tracks for run in runs if isinstance(run.tracks, TrackFigures)]
    rows = np.array([f.truth_rows for f in figures], float)

    def mean(name: str) -> float:
        return float(np.average([getattr(f, name) for f in figures], weights=rows))

    idf1 = [f.idf1 for f in figures]
    return (
        f"identities     IDF1 {mean('idf1'):.4f} [{min(idf1):.3f}, {max(idf1):.3f}]  precision "
        f"{mean('id_precision'):.3f}  recall {mean('id_recall'):.3f}  MOTA {mean('mota'):.3f}  switches "
        f"{sum(f.id_switches for f in figures)}  false {sum(f.false_positives for f in figures)}  missed "
        f"{sum(f.misses for f in figures)}  (n = {int(rows.sum())} rows, "
        f"{sum(f.truth_objects for f in figures)} objects, {sum(f.tracks for f in figures)} tracks)"
    )


def position_rows(runs: Sequence[Run]) -> Iterator[str]:
    """Range errors and coverage."""
    rows = located_rows(runs)
    off = np.abs(range_error(rows))
    inside, old = covered(rows), rows.track_age_s >= OLD_TRACK_S
    yield (
        f"range          median |error| {100 * np.median(off):.2f} %  bias {100 * np.median(range_error(rows)):+.2f} %  "
        f"p95 {100 * np.quantile(off, 0.95):.1f} %  (n = {len(off)}, without position {rows.without})"
    )
    for name, use in (("all", np.ones(len(old), bool)), ("tracks > 3 s", old)):
        low, high = (
            interval(rows.objects[use], weighted_share(inside[use]), resamples=300, seed=0)
            or (float("nan"),) * 2
        )
        yield (
            f"95 % ellipse   {name}: {100 * inside[use].mean():.1f} % inside [{100 * low:.1f}, {100 * high:.1f}]  "
            f"(n = {int(use.sum())})"
        )


def cost_row(runs: Sequence[Run]) -> str:
    """Milliseconds of a timestep."""
    fuse_ms = np.concatenate([run.fuse_ms for run in runs])
    track_ms = np.concatenate([run.track_ms for run in runs])
    both = fuse_ms + track_ms
    return (
        f"cost           {both.mean():.2f} ms a timestep (fusion {fuse_ms.mean():.2f}, tracks {track_ms.mean():.2f}), "
        f"an hour of 36000 in {36 * both.mean():.0f} s  (n = {len(both)})"
    )


def boxes_row(found: Sequence[Sequence[dict[str, Detections]]]) -> str:
    """How much there is to do."""
    counts = np.array([sum(map(len, step.values())) for drive in found for step in drive])
    return f"boxes          {counts.mean():.0f} a timestep, at most {counts.max()}"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], epilog="example: benchmark_fusion.py --quick"
    )
    parser.add_argument("--quick", action="store_true", help="one short drive")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--duration", type=float, default=40.0, help="seconds of each drive (40)")
    parser.add_argument("--rate", type=float, default=10.0, help="timesteps a second (10)")
    parser.add_argument("--density", type=float, default=1.0, help="of traffic (1)")
    parser.add_argument("--hills", action="store_true", help="roads climb")
    parser.add_argument("--noise", nargs="+", choices=NOISES, default=list(NOISES))
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "perception_batch_truth")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    options = parser.parse_args()
    seeds, duration = ([1], 12.0) if options.quick else (options.seeds, options.duration)
    config = load_config(None, options.set)
    no_lag = load_config(None, [*options.set, "track.lag_s=0"])
    classes, settings = Classes(config.build_ontology()), EvaluateSettings()
    drives = []
    for seed in seeds:
        drive = SimulateSettings(
            duration_s=duration, rate_hz=options.rate, density=options.density, hills=options.hills, seed=seed
        )
        drives.append(open_drive(options.cache, drive, classes))
        print(f"truth of seed {seed} is there", file=sys.stderr)
    print(f"surround6, {options.rate:g} Hz, {duration:g} s, seeds {seeds}{', hills' * options.hills}")
    for kind in options.noise:
        found = [detections_of(drive, kind) for drive in drives]
        runs = [run_drive(d, f, config, classes, settings) for d, f in zip(drives, found, strict=True)]
        print(f"\n{kind}\n  {boxes_row(found)}\n  {merge_row(runs)}\n  {identity_row(runs)}")
        for row in position_rows(runs):
            print(f"  {row}")
        print(f"  {cost_row(runs)}")
        without = [run_drive(d, f, no_lag, classes, settings) for d, f in zip(drives, found, strict=True)]
        for name, (lag, none, count) in compare(runs, without).items():
            print(
                f"  smoothing      {name}: RMSE {lag:.3f}, without lag {none:.3f} ({100 * (lag / none - 1):+.0f} %)  (n = {count})"
            )
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
