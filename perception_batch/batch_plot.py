"""The benchmark as a picture: throughput with its ceilings above, memory below, against batch size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_batch.batch_sweep import Sweep, SweepRow
from perception_batch.errors import WriteError, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Group = tuple[str, int, str]


def plot_sweep(found: Sweep, path: Path) -> None:
    """Draw a sweep as PNG.

    Raises:
        WriteError: the file cannot be written.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups: dict[Group, list[SweepRow]] = {}
    for row in found.rows:
        if not row.error:
            v = row.variant
            groups.setdefault((v.backend, v.image_size, str(v.workers)), []).append(row)
    figure = Figure(figsize=(10, 8), layout="constrained")
    FigureCanvasAgg(figure)
    speed, memory = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    palette = colormaps["tab10"]
    for number, (group, rows) in enumerate(groups.items()):
        _draw(speed, memory, group, rows, palette(number % 10))
    chosen = found.recommended
    for row in found.rows:
        if row.variant == chosen:
            speed.plot(
                chosen.batch_size,
                row.images_per_s,
                "*",
                markersize=20,
                color="#d62728",
                zorder=5,
                label=f"recommended: batch {chosen.batch_size}",
            )
    _draw_loops(speed, memory, found)
    sizes = sorted({row.variant.batch_size for row in found.rows})
    memory.set_xscale("log", base=2)
    memory.set_xticks(sizes, [str(size) for size in sizes])
    memory.minorticks_off()
    memory.set_xlabel("batch size (images)")
    speed.set_ylabel("images/s")
    memory.set_ylabel("peak memory (MB)")
    for axes in (speed, memory):
        axes.set_ylim(bottom=0, top=1.08 * axes.get_ylim()[1])
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    used = next((row.used for row in found.rows if row.variant == chosen), {})
    figure.suptitle(
        f"{_text(Path(found.model).name)} on {_text(', '.join(found.log))}: {_text(used.get('device', ''))}, "
        f"{found.cores} cores, median of {found.repeats} (bars: least to most)",
        fontsize=12,
    )
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise WriteError(f"{printable(path)}: cannot be written: {error.strerror or error}") from None


def _draw(speed: Axes, memory: Axes, group: Group, rows: list[SweepRow], color: Any) -> None:
    backend, image_size, workers = group
    name = f"{rows[0].used.get('backend', backend)} {rows[0].used.get('precision', '')}, {image_size} px"
    name += f", {workers} workers" if workers != "auto" else ""
    sizes = [row.variant.batch_size for row in rows]
    style: dict[str, Any] = {"color": color, "linewidth": 1.2}
    rates = [row.figures["images_per_s"] for row in rows]
    medians = [rate.median for rate in rates]
    below, above = [r.median - r.least for r in rates], [r.most - r.median for r in rates]
    speed.plot(sizes, medians, "o-", label=f"{name}:\nend to end", color=color, linewidth=2.2)
    speed.errorbar(sizes, medians, yerr=[below, above], fmt="none", capsize=3, ecolor=color)
    alone = [row.figures["device_alone_per_s"].median for row in rows]
    speed.plot(sizes, alone, "--", label="device alone", **style)
    decode = next((r.figures["decode_alone_per_s"] for r in rows if "decode_alone_per_s" in r.figures), None)
    if decode is not None:
        if len(sizes) > 1:
            speed.plot(sizes, [decode.median] * len(sizes), ":", label="decoding alone", **style)
        else:
            speed.plot(sizes, [decode.median], "_", markersize=16, label="decoding alone", color=color)
    for key, line, where in (("peak_host_mb", "-", "host"), ("peak_cuda_mb", "--", "CUDA")):
        known = [(row.variant.batch_size, row.figures[key].median) for row in rows if key in row.figures]
        if known:
            xs, ys = zip(*known, strict=True)
            memory.plot(xs, ys, line, marker="o", markersize=4, label=f"{where}: {name}", **style)


def _draw_loops(speed: Axes, memory: Axes, found: Sweep) -> None:
    """A line across for each loop: it has no batch size of ours."""
    greys = ("#444444", "#777777", "#aaaaaa")
    for color, row in zip(greys, (row for row in found.loops if not row.error), strict=False):
        speed.axhline(
            row.images_per_s, color=color, linestyle=(0, (6, 2)), linewidth=1.6, label=row.variant.backend
        )
        memory.axhline(row.figures["peak_host_mb"].median, color=color, linestyle=(0, (6, 2)), linewidth=1.2)


def _text(value: object) -> str:
    """Names from outside as a picture may show them: short, and no formula."""
    clean = printable(value)
    clean = clean if len(clean) <= 40 else clean[:39] + "…"
    return clean.replace("$", r"\$")
