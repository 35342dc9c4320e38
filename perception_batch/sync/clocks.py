"""Every camera's clock and trigger against the train that makes the timesteps: offset, jitter, drift.

Drift shows in two ways: in the phase between two trains of stamps, blurred by the jitter of both; and in the stamps
against the recorder's clock, blurred by delays, where the driver does not stamp by the recorder's clock itself. Grouping
needs the first. Where it is blurred by more than `_SHARP_PPM` and the second agrees with it, the second sharpens it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from perception_batch.config import SyncConfig
from perception_batch.errors import printable
from perception_batch.sync.phase import (
    FASTER,
    MAX_DRIFT_PPM,
    Line,
    fit_line,
    phases,
    robust_mean,
    sigma_about,
)
from perception_batch.sync.sample import Sample

_SHARP_PPM = 1.7  # three times that is 5 ppm, 18 ms an hour
_AGREE_SIGMA = 3.5
_SURE_SIGMA = 3.0
_SAME_CLOCK_NS = 1000.0  # delays that vary by less may be made up from the stamps
_STEADY = 0.2  # of a period: phases that spread wider are no phase


@dataclass(frozen=True, slots=True)
class Clocks:
    """What was found; fields as in `SyncPlan`."""

    offset_ns: dict[str, int]
    jitter_ns: dict[str, int]
    drift_ppm: dict[str, float]
    drift_sd_ppm: dict[str, float]
    corrected_ppm: dict[str, float]
    epoch_ns: int


def compare_clocks(
    samples: Mapping[str, Sample], train: Sample, reference: str, settings: SyncConfig, notes: list[str]
) -> Clocks:
    """Offset, jitter and drift of every camera against `train`; adds to `notes` what the user should know.

    Args:
        samples: by camera.
        train: the reference's sample, or the triggers'.
        reference: name of the reference camera.
        settings: the `sync` section.
        notes: lines are added.
    """
    epoch_ns = int(train.stamps_ns[0])
    triggered = settings.anchor == "trigger"
    whose = printable(settings.trigger_topic) if triggered else printable(reference)
    recorder = fit_line(train.stamps_ns, -train.delays_ns.astype(np.float64))
    out = Clocks({}, {}, {}, {}, {}, epoch_ns)
    steady: list[str] = []
    for name, sample in samples.items():
        line = Line(epoch_ns, 0.0, 0.0, 0.0, 0.0)
        shorter = min((p for p in (sample.period_ns, train.period_ns) if p), default=0)
        if train.period_ns and len(sample) and (triggered or name != reference):
            line, is_steady = _phase_line(sample, train, shorter)
            if is_steady:
                steady.append(name)
                notes += [
                    f"{printable(name)}: its phase to {whose} jumps by {size / 1e6:+.1f} ms "
                    f"{(at_ns - epoch_ns) / 1e9:.1f} s into the sample"
                    for at_ns, size in line.jumps[:3]
                ]
            else:
                notes.append(
                    f"{printable(name)} has no constant phase to {whose} "
                    f"(spread {line.sigma_ns / 1e6:.1f} ms): grouped without an offset"
                )
        ppm, sd = _drift(line, sample, recorder) if name in steady else (0.0, line.sd_ppm)
        out.drift_ppm[name], out.drift_sd_ppm[name] = ppm, sd
        apply = settings.drift == "correct" and abs(ppm) > _SURE_SIGMA * sd
        out.corrected_ppm[name] = ppm if apply else 0.0
        at_epoch = line.value_ns + (epoch_ns - line.centre_ns) * out.corrected_ppm[name] / 1e6
        if out.corrected_ppm[name]:  # half a period either way is meant of the beginning, not of the middle
            at_epoch -= shorter * round(at_epoch / shorter)
        out.offset_ns[name], out.jitter_ns[name] = round(at_epoch), round(line.sigma_ns)
    if triggered:
        _keep_together(
            out.offset_ns, [n for n in steady if samples[n].period_ns >= FASTER * train.period_ns], train
        )
    _configured(out.offset_ns, settings, None if triggered else reference)
    for name in steady:
        if name not in settings.offsets_ms and abs(out.offset_ns[name]) > 0.4 * train.period_ns:
            notes.append(_either_way(name, whose, out.offset_ns[name], train.period_ns))
    return out


def _phase_line(sample: Sample, train: Sample, shorter: int) -> tuple[Line, bool]:
    """The phase over time, and whether it is one: without, the line holds no offset and the phases' spread."""
    at, phase = phases(sample.stamps_ns, train.stamps_ns, sample.period_ns, train.period_ns)
    line = fit_line(at, phase)
    other_rate = abs(line.slope_ppm) > max(MAX_DRIFT_PPM, _SURE_SIGMA * line.sd_ppm)
    if shorter and (line.sigma_ns > _STEADY * shorter or other_rate):
        spread = sigma_about(phase, float(np.median(phase)))
        return Line(line.centre_ns, 0.0, 0.0, math.inf, spread), False
    if not math.isfinite(line.sd_ppm):  # too short for a line
        return Line(line.centre_ns, robust_mean(phase), 0.0, math.inf, line.sigma_ns), True
    return line, True


def _drift(line: Line, sample: Sample, recorder: Line) -> tuple[float, float]:
    """Drift and its standard error, ppm: by the phase, sharpened by the recorder's clock where that agrees."""
    if line.sd_ppm <= _SHARP_PPM:
        return line.slope_ppm, line.sd_ppm
    own = fit_line(sample.stamps_ns, -sample.delays_ns.astype(np.float64))
    other, other_sd = own.slope_ppm - recorder.slope_ppm, math.hypot(own.sd_ppm, recorder.sd_ppm)
    if not math.isfinite(line.sd_ppm) or not math.isfinite(other_sd):
        return line.slope_ppm, line.sd_ppm
    if abs(other - line.slope_ppm) > _AGREE_SIGMA * math.hypot(line.sd_ppm, other_sd):
        return line.slope_ppm, line.sd_ppm
    a, b = 1 / line.sd_ppm**2, 1 / max(other_sd, 1e-3) ** 2
    both = (a * line.slope_ppm + b * other) / (a + b)
    if max(own.sigma_ns, recorder.sigma_ns) < _SAME_CLOCK_NS and abs(other) < 0.01:
        return both, line.sd_ppm  # no drift at all, or stamps by the recorder's clock: that proves nothing
    return both, 1 / math.sqrt(a + b)


def _keep_together(offset_ns: dict[str, int], names: list[str], train: Sample) -> None:
    """Phases to a trigger are known but for whole periods: choose these so that the cameras lie close together.

    Cameras of one rig fire in one burst after their trigger; that burst may straddle half a period, where each
    phase by itself would come out a period early or late. The widest gap between phases is where it ends.
    """
    period = train.period_ns
    if len(names) < 2 or not period:
        return
    turn = sorted((offset_ns[name] % period, name) for name in names)
    gaps = [(turn[(i + 1) % len(turn)][0] - turn[i][0]) % period for i in range(len(turn))]
    first = (gaps.index(max(gaps)) + 1) % len(turn)
    start = turn[first][0]
    arc = {name: start + (phase - start) % period for phase, name in turn}
    whole = round((min(arc.values()) + max(arc.values())) / 2 / period) * period
    for name, phase in arc.items():
        offset_ns[name] = phase - whole


def _configured(offset_ns: dict[str, int], settings: SyncConfig, reference: str | None) -> None:
    """Offsets from the settings in place of the estimates; against the reference's own, where it is given one."""
    zero = settings.offsets_ms.get(reference, 0.0) if reference is not None else 0.0
    for name, value in settings.offsets_ms.items():
        if name in offset_ns:
            offset_ns[name] = round((value - zero) * 1e6)


def _either_way(name: str, whose: str, offset_ns: int, period_ns: int) -> str:
    other = offset_ns - period_ns if offset_ns > 0 else offset_ns + period_ns
    return (
        f"{printable(name)} fires {offset_ns / 1e6:+.1f} ms from {whose} or {other / 1e6:+.1f} ms: near half a period "
        f"stamps cannot tell; sync.offsets_ms.{printable(name)} settles it"
    )
