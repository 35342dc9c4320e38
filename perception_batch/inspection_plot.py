"""`inspect --plot`: one picture of how the cameras' frames lie in time, how they group, and where some are lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from perception_batch.errors import ConfigError, WriteError, printable
from perception_batch.inspection_sync import SyncLook

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FORMATS = (".png", ".svg", ".pdf")
_MOST_POINTS = 5000  # of one camera; more only make an even band darker
_MOST_MARKS = 2000  # gaps and unused frames of one camera that are drawn
_LABEL_CHARS = 24
_LOST, _UNUSED, _REFUSED = "#1a1a1a", "#ff7f0e", "#d62728"
_TICKS_MS = (1, 2, 5, 10, 20, 50, 100)

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def check_plot_name(path: Path) -> None:
    """Refuse a name whose ending says no format that is drawn.

    Raises:
        ConfigError: says which there are.
    """
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"--plot {printable(path)}: expected a name that ends in {', '.join(_FORMATS)}")


def plot_sync(look: SyncLook, path: Path, *, title: str) -> None:
    """Draw what grouping a log showed.

    Args:
        look: see `look_at_sync`.
        path: ``.png``, ``.svg`` or ``.pdf``.
        title: what the log is called.

    Raises:
        WriteError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(look.plan.cameras)
    rows = max(len(names), 3)
    height = 4.2 + 3.2 + 0.9 + 0.3 * rows
    figure = Figure(figsize=(13, height), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, 2, height_ratios=(4.2, 0.9 + 0.3 * rows, 3.2), width_ratios=(1.0, 1.0))
    phase = figure.add_subplot(grid[0, :])
    lanes = figure.add_subplot(grid[1, :], sharex=phase)
    colors = _colors(names)
    _draw_phases(phase, look, colors)
    _draw_lanes(lanes, look, colors)
    _draw_spread(figure.add_subplot(grid[2, 0]), look)
    _draw_tolerances(figure.add_subplot(grid[2, 1]), look)
    figures = look.figures
    complete = f", {100 * figures.complete / figures.timesteps:.1f} % complete" if figures.timesteps else ""
    figure.suptitle(
        _text(f"{title}: {figures.timesteps} timesteps by {figures.anchor}{complete}", 110),
        fontsize=14,
        fontweight="bold",
    )
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise WriteError(f"{printable(path)}: cannot be written: {error.strerror or error}") from None


def _draw_phases(axes: Axes, look: SyncLook, colors: dict[str, Any]) -> None:
    plan = look.plan
    for name in plan.cameras:
        pairs = _thinned(look.grouped_ns[name], _MOST_POINTS)
        drift = plan.drift_ppm[name]
        sure = abs(drift) > 3 * plan.drift_sd_ppm[name]
        label = (
            f"{_text(name)}: {plan.offset_ns[name] / 1e6:+.1f} ms, jitter {plan.jitter_ns[name] / 1e6:.1f}"
        )
        label += f",\ndrift {drift:+.0f} ppm" if sure else ""
        if plan.anchor != "trigger" and name == plan.reference:
            label = f"{_text(name)}: the reference"
        axes.plot(
            _seconds(look, pairs[:, 0]),
            pairs[:, 1] / 1e6,
            ".",
            markersize=3.5,
            alpha=0.75,
            color=colors[name],
            label=label,
            rasterized=True,
        )
        axes.axhline(plan.offset_ns[name] / 1e6, color=colors[name], linewidth=0.8, alpha=0.5)
    whose = {
        "reference": f"frame of {_text(plan.reference)}",
        "trigger": "trigger",
        "grid": "tick of the grid",
        "tightest": "timestep",
    }[plan.anchor]
    axes.set_title(
        "When each camera fires: a flat band is a steady camera, a slope is a drifting clock", loc="left"
    )
    axes.set_ylabel(f"ms after its {whose}")
    low, high = axes.get_ylim()
    middle, half = (low + high) / 2, max((high - low) / 2, 1.0)  # microseconds are not worth a landscape
    axes.set_ylim(middle - half, middle + half)
    axes.grid(alpha=0.25)
    axes.tick_params(labelbottom=False)
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.005, 1.0),
        fontsize=9,
        markerscale=3,
        frameon=False,
        borderaxespad=0,
    )


def _draw_lanes(axes: Axes, look: SyncLook, colors: dict[str, Any]) -> None:
    """A lane for each camera: from its first to its last frame, with what is lost and what is not used."""
    names = look.plan.cameras
    for lane, name in enumerate(names):
        used, unused = look.grouped_ns[name][:, 0], look.unused_ns[name]
        every = np.concatenate([used, unused])
        if not len(every):
            continue
        at = _seconds(look, np.array([every.min(), every.max()]))
        axes.barh(lane, max(at[1] - at[0], 1e-3), left=at[0], height=0.55, color=colors[name], alpha=0.35)
        gaps = sorted(look.figures.cameras[name].gaps, key=lambda gap: gap.start_ns - gap.stop_ns)[
            :_MOST_MARKS
        ]
        if gaps:
            edges = np.array([(gap.start_ns, gap.stop_ns) for gap in gaps], np.int64)
            begin = _seconds(look, edges[:, 0])
            axes.barh(lane, _seconds(look, edges[:, 1]) - begin, left=begin, height=0.55, color=_LOST)
        if len(unused):
            marks = _seconds(look, _thinned(np.sort(unused), _MOST_MARKS))
            axes.plot(
                marks, np.full(len(marks), lane + 0.36), "|", color=_UNUSED, markersize=6, markeredgewidth=1.2
            )
    axes.set_yticks(range(len(names)), [_text(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.7)
    left, right = axes.get_xlim()
    axes.set_xlim(left - 0.01 * (right - left), right + 0.01 * (right - left))
    axes.set_xlabel("seconds from the first stamp")
    axes.set_title("Where frames are lost", loc="left")
    axes.grid(axis="x", alpha=0.25)
    axes.plot([], [], "s", color=_LOST, label="gap: frames lost")
    axes.plot(
        [], [], "|", color=_UNUSED, markersize=9, markeredgewidth=2, label="frame that no timestep uses"
    )
    axes.legend(loc="upper left", bbox_to_anchor=(1.005, 1.0), fontsize=9, frameon=False, borderaxespad=0)


def _draw_spread(axes: Axes, look: SyncLook) -> None:
    axes.set_title("Spread of a timestep: first to last exposure", loc="left")
    axes.set_xlabel("ms")
    axes.set_ylabel("timesteps")
    spreads = look.spreads_ns[:, 1] / 1e6
    if not len(spreads):
        axes.text(0.5, 0.5, "no timestep has two frames", ha="center", va="center", transform=axes.transAxes)
        return
    least = max(1.0, 0.02 * float(spreads.max()))  # one value alone is a bar, not a wall
    axes.hist(spreads, bins=40, range=(spreads.min() - least, spreads.max() + least), color="#4c72b0")
    for value, style in ((50, "-"), (99, "--")):
        at = look.figures.spread_ms[value]
        word = "median" if value == 50 else f"{value} %"
        axes.axvline(at, color="#222222", linestyle=style, linewidth=1.2, label=f"{word}: {at:.1f} ms")
    alone = look.figures.aligned_ms[50]
    axes.plot([], [], " ", label=f"median, offsets taken off: {alone:.1f} ms")
    axes.set_ylim(0, 1.45 * axes.get_ylim()[1])  # room for the legend
    axes.grid(axis="y", alpha=0.25)
    axes.legend(fontsize=9, framealpha=0.9)


def _draw_tolerances(axes: Axes, look: SyncLook) -> None:
    rows = look.figures.tolerances
    at = [row.tolerance_ms for row in rows]
    axes.set_title("What a tolerance would give", loc="left")
    axes.set_xlabel("tolerance, ms")
    axes.set_ylabel(f"% of {_text(look.plan.reference)}'s frames")
    if len(look.plan.cameras) < 2:
        axes.text(0.5, 0.5, "one camera alone", ha="center", va="center", transform=axes.transAxes)
        return
    axes.plot(
        at,
        [100 * row.complete for row in rows],
        "o-",
        color="#2a7f3f",
        label="with every camera, offsets off",
    )
    axes.plot(
        at,
        [100 * row.complete_without_offsets for row in rows],
        "o--",
        color="#999999",
        label="with every camera, raw stamps",
    )
    axes.axvline(
        look.figures.tolerance_ms,
        color="#222222",
        linewidth=1.2,
        label=f"now: {look.figures.tolerance_ms:.1f} ms",
    )
    refused_ms = look.plan.period_ns[look.plan.reference] / 2e6
    if 0 < refused_ms < max(at):
        axes.axvspan(refused_ms, max(at) * 1.15, color=_REFUSED, alpha=0.1, label="too large for this rate")
    axes.set_xscale("log")
    axes.set_xticks(_TICKS_MS, [str(value) for value in _TICKS_MS])
    axes.minorticks_off()
    axes.set_xlim(min(at) * 0.9, max(at) * 1.15)
    axes.set_ylim(-3, 103)
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=9, frameon=False, borderaxespad=0)


def _colors(names: list[str]) -> dict[str, Any]:
    from matplotlib import colormaps

    palette = colormaps["tab10" if len(names) <= 10 else "turbo"]
    last = max(1, len(names) - 1)
    return {name: palette(i if len(names) <= 10 else i / last) for i, name in enumerate(names)}


def _seconds(look: SyncLook, stamps_ns: IntArray) -> FloatArray:
    return np.asarray((stamps_ns - look.first_stamp_ns) / 1e9)


def _thinned(rows: IntArray, most: int) -> IntArray:
    """At most so many, evenly chosen."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def _text(name: str, most: int = _LABEL_CHARS) -> str:
    """A name as plain text: printable, not too long, and no formula ($) for matplotlib."""
    text = printable(name)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.replace("$", r"\$")
