"""Results as pictures, SVG and PNG. It needs matplotlib, which only this module imports."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from orlop.benchmark.bench import Results
from orlop.benchmark.figures import Row
from orlop.errors import UnsupportedError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Plot(NamedTuple):
    """A figure against the case that it was found in, one line a driver."""

    name: str  # of the file
    part: str
    figure: str
    title: str
    x: str
    y: str


PLOTS = (
    Plot(
        "latency", "concurrency", "first_p50_ms",
        "Request to first instruction, median", "clients at once", "ms",
    ),
    Plot(
        "tail", "concurrency", "first_p99_ms",
        "Request to first instruction, 99th percentile", "clients at once", "ms",
    ),
    Plot(
        "rate", "concurrency", "per_second",
        "Started, run to exit and removed", "clients at once", "per second",
    ),
    Plot(
        "cpu", "concurrency", "cpu_ms",
        "Processor time of all processes, for one sandbox", "clients at once", "ms",
    ),
    Plot(
        "memory", "density", "pss_each_kb",
        "Engine, shims and supervisors, for one sandbox (PSS)", "sandboxes that live", "KB",
    ),
    Plot(
        "density", "density", "first_p50_ms",
        "Request to first instruction beside others, median", "sandboxes that live", "ms",
    ),
)  # fmt: skip


def check(folder: str) -> None:
    """UnsupportedError where nothing can be drawn; asked before anything is measured."""
    if find_spec("matplotlib") is None:
        raise UnsupportedError("plots need matplotlib", hint="pip install 'orlop[bench]'")
    Path(folder).mkdir(parents=True, exist_ok=True)


def draw(results: Results, folder: str, *, prefix: str = "bench-") -> list[Path]:
    """Draw each plot that there are figures for; return the files."""
    from matplotlib import rcParams

    rcParams.update({"svg.hashsalt": "orlop", "svg.fonttype": "none"})
    written: list[Path] = []
    for plot in PLOTS:
        rows = [row for row in results.rows if _belongs(row, plot)]
        if rows:
            for form in ("svg", "png"):
                written.append(Path(folder) / f"{prefix}{plot.name}.{form}")
                _draw(plot, rows, written[-1], caption=_caption(results))
    return written


def _belongs(row: Row, plot: Plot) -> bool:
    return row.part == plot.part and plot.figure in row.figures and row.at >= 0


def _caption(results: Results) -> str:
    found = results.machine
    return f"{found['cpus']} processors, Linux {found['kernel']}, {found['time']}"


def _draw(plot: Plot, rows: Sequence[Row], path: Path, *, caption: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    for driver in dict.fromkeys(row.driver for row in rows):
        own = sorted((row for row in rows if row.driver == driver), key=lambda row: row.at)
        ours = driver.startswith("orlop")
        axes.plot(
            [row.at for row in own],
            [row.figures[plot.figure] for row in own],
            label=driver,
            marker="o",
            linewidth=2.0 if ours else 1.2,
            linestyle="-" if ours else "--",
        )
    _label(axes, plot, caption, points=sorted({row.at for row in rows}))
    metadata = {"Date": None} if path.suffix == ".svg" else {}
    figure.savefig(path, dpi=150, metadata=metadata)


def _label(axes: "Axes", plot: Plot, caption: str, *, points: Sequence[float]) -> None:
    """Name it all; both axes are logarithmic, for docker's figures are 50 times Orlop's."""
    axes.set_title(plot.title, loc="left")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xticks(points, minor=False)
    axes.set_xticks([], minor=True)
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_xlabel(f"{plot.x}\n{caption}")
    axes.set_ylabel(plot.y)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize="small")
