"""The words of `perception-batch export`. Only argparse is imported until the command runs."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_batch.command_options import add_settings, positive_count

if TYPE_CHECKING:
    from perception_batch.config import RunConfig
    from perception_batch.detect.facts import ExportedModel, ModelFacts
    from perception_batch.types import Image

EXAMPLE = (
    "example: perception-batch export yolo11n.pt --backend openvino --precision int8 --calibrate drive.bag"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument("weights", metavar="WEIGHTS", help="path, or a name in data/models/ or the cache")
    parser.add_argument(
        "--backend", choices=["openvino", "onnx", "tensorrt"], required=True, help="library that shall run it"
    )
    parser.add_argument(
        "--precision", choices=["fp32", "fp16", "int8"], default="fp32", help="of the network (fp32)"
    )
    parser.add_argument(
        "--calibrate",
        action="append",
        type=Path,
        default=[],
        metavar="LOG",
        help="int8: frames of this log show what the cameras see; may be repeated for the files of one drive",
    )
    parser.add_argument(
        "--frames",
        type=positive_count,
        default=300,
        metavar="N",
        help="int8: calibrate on at most so many (300)",
    )
    parser.add_argument(
        "--image-size",
        type=positive_count,
        metavar="PX",
        help="long side of the input, for models that are built for one size, and for calibration (detect.image_size)",
    )
    parser.add_argument(
        "--batch-size",
        type=positive_count,
        default=32,
        metavar="N",
        help="tensorrt: images at a time, at most (32)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the model; default: the user's cache"
    )
    parser.add_argument("--again", action="store_true", help="make it even if the cache has it")
    parser.add_argument("--json", action="store_true", help="for programs")
    add_settings(parser)


def run_command(arguments: argparse.Namespace) -> int:
    """Export and say what was made; the exit status.

    Raises:
        ConfigError: options that contradict each other, or settings.
        ModelError: no weights, a package is missing, or the export fails.
        LogError: nothing to calibrate on.
        WriteError: the folder cannot be written, or holds other things.
    """
    from perception_batch.config import load_config
    from perception_batch.detect import find_weights
    from perception_batch.errors import ConfigError

    overrides = list(arguments.set)
    if arguments.image_size is not None:
        overrides.append(f"detect.image_size={arguments.image_size}")
    config = load_config(arguments.config, overrides)
    int8 = arguments.precision == "int8"
    if int8 != bool(arguments.calibrate):
        raise ConfigError(
            "--precision int8 needs frames to calibrate on: add --calibrate LOG"
            if int8
            else f"--calibrate is for --precision int8, and --precision is {arguments.precision}"
        )
    weights = find_weights(arguments.weights)
    start = time.perf_counter()

    from perception_batch.detect.export import ExportRequest, export_model

    request = ExportRequest(
        weights,
        arguments.backend,
        arguments.precision,
        config.detect.image_size,
        config.detect.max_detections,
        arguments.batch_size,
    )
    calibrate = partial(calibrated_form, logs=arguments.calibrate, config=config, most=arguments.frames)
    model = export_model(request, arguments.out, calibrate if int8 else None, again=arguments.again or int8)
    report = _report(model, time.perf_counter() - start)
    text = json.dumps(report, indent=2) if arguments.json else _as_text(report)
    sys.stdout.write(text + "\n")
    return 0


def calibration_frames(
    logs: Sequence[Path], config: RunConfig, facts: ModelFacts, most: int
) -> Iterator[Image]:
    """Frames of a drive as the network will see them, evenly over the drive and its cameras.

    Args:
        logs: file, bag folder, or the files of one drive.
        config: the run's settings; cameras' own (`roi_px`, `rotate_deg`, `image_size`) count.
        facts: of the model.
        most: not more than these.

    Raises:
        LogError: nothing readable, or no camera.
        ConfigError: settings that do not fit the log, or an image size that the model does not take.
    """
    from perception_batch.decode import decode_frame
    from perception_batch.detect import prepare
    from perception_batch.detect.detector_input import fit_view
    from perception_batch.errors import DecodeError
    from perception_batch.flow import closed
    from perception_batch.log_pictures import decodable
    from perception_batch.read import open_log
    from perception_batch.shots import Preparer
    from perception_batch.stages import Profile
    from perception_batch.types import EncodedFrame

    def view(image_hw: tuple[int, int], *, image_size: int | None = None, **turned: Any) -> Any:
        size = image_size or config.detect.image_size
        return fit_view(
            image_hw,
            image_size=size,
            stride=facts.stride,
            family=facts.family,
            only_hw=facts.input_hw,
            **{"roi_px": None, "rotate_deg": 0, **turned},
        )

    preparer = Preparer(config, view, Profile())
    with open_log(tuple(logs), config.read, config.cameras) as log:
        selected = log.select(None)
        every = max(1, -(-sum(log.cameras[name].count for name in selected) // most))
        seen = dict.fromkeys(selected, 0)
        items = decodable(log, selected, (None, None), config)
        with closed(items):
            for item in items:
                if not isinstance(item, EncodedFrame):
                    continue
                seen[item.camera] += 1
                if (seen[item.camera] - 1) % every:
                    continue
                own = config.camera(item.camera).bit_depth
                depth = config.decode.bit_depth if own is None else own
                try:
                    image = decode_frame(item, config.read.max_image_mpx, depth).image
                except DecodeError:
                    continue  # others take its place; `inspect --full` and `run` count it
                yield prepare(image, preparer.view(item.camera, (image.shape[0], image.shape[1])))


def calibrated_form(
    full: ExportedModel, into: Path, *, logs: Sequence[Path], config: RunConfig, most: int
) -> ModelFacts:
    """Write the INT8 form of an FP32 export, calibrated on at most `most` frames of a drive; see `export_model`."""
    from perception_batch.detect.quantize import quantize, take_frames
    from perception_batch.flow import closed

    source = calibration_frames(logs, config, full.facts, most)
    with closed(source):
        frames = take_frames(source, most)
    return quantize(full, into, frames, ", ".join(path.name for path in logs))


def _report(model: ExportedModel, seconds: float) -> dict[str, Any]:
    facts = model.facts
    size = sum((model.file.parent / name).stat().st_size for name in facts.files)
    return {
        "model": str(model.file.parent),
        "backend": facts.backend,
        "precision": facts.precision,
        "weights": facts.weights,
        "sha256": facts.sha256,
        "input_hw": [list(hw) for hw in facts.input_hw] or "any",
        "megabytes": round(size / 1e6, 1),
        "seconds": round(seconds, 1),
        "versions": dict(facts.versions),
        "calibration": dict(facts.calibration),
    }


def _as_text(report: dict[str, Any]) -> str:
    from perception_batch.errors import printable

    made = f"{printable(report['weights'])} for {report['backend']} in {report['precision']}"
    lines = [f"{made}: {report['megabytes']} MB, {report['seconds']} s", f"  {printable(report['model'])}"]
    lost = report["calibration"]
    if lost:
        lines.append(
            f"  calibrated on {lost['frames']} frames of {printable(lost['source'])}; on these, of {lost['boxes_fp32']} "
            f"boxes of fp32 {lost['found_again']} ({lost['found_again_share']:.1%}) are found again and "
            f"{lost['extra']} are new; scores differ by {lost['score_difference_mean']:.3f} on average"
        )
    lines.append(f"use it: perception-batch run LOG --out out --model {printable(report['model'])}")
    return "\n".join(lines)
