"""Memory over time as a picture: a panel for each run, curves of what was recorded, and the broker's passes marked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure
from msgspec import Struct

from bench.memory.readings import MEGABYTE
from bench.memory.recorder import Point
from ipc.messages import control

WIDTH: Final = 9.0  # inches
HEIGHT_OF_PANEL: Final = 2.5
_LEVELS: Final = {"trim": "#8fbf6a", "release": "#2a9d5c", "critical": "#c8442b"}
_ALARM: Final = "#f6d9b8"

mpl.rcParams["svg.hashsalt"] = "ebbmq"  # the same figures make the same file
mpl.rcParams["svg.fonttype"] = "none"  # text stays text


class Curve(Struct, frozen=True):
    """Bytes over time; seconds since 1970."""

    name: str
    at: tuple[float, ...]
    size_bytes: tuple[int, ...]
    colour: str

    @classmethod
    def private(cls, name: str, points: Sequence[Point], colour: str) -> "Curve":
        return cls(name, tuple(p.at for p in points), tuple(p.private for p in points), colour)

    @classmethod
    def charged(cls, name: str, points: Sequence[Point], field: str, colour: str) -> "Curve":
        """What a cgroup was charged; `field` of `Charge`."""
        charged = [(p.at, getattr(p.charge, field)) for p in points if p.charge is not None]
        return cls(name, tuple(at for at, _ in charged), tuple(count for _, count in charged), colour)


class Panel(Struct, frozen=True):
    """One run, or several on top of each other, each of which begins at 0 s; all but the curves is of the first."""

    title: str
    curves: tuple[Curve, ...]
    passes: tuple[control.Pass, ...] = ()
    alarms: tuple[tuple[float, float], ...] = ()  # from when to when publishers waited
    limit_bytes: int | None = None
    is_logarithmic: bool = False


def draw(panels: Sequence[Panel], path: Path) -> None:
    """One below the other, as SVG."""
    figure = Figure(figsize=(WIDTH, HEIGHT_OF_PANEL * len(panels)), layout="constrained")
    rows = figure.subplots(len(panels), 1, squeeze=False)
    for (axes,), panel in zip(rows, panels, strict=True):
        _draw_panel(axes, panel)
    rows[-1][0].set_xlabel("seconds", fontsize=8)
    figure.savefig(path, format="svg", metadata={"Date": None})


def _draw_panel(axes: Any, panel: Panel) -> None:
    for curve in panel.curves:
        seconds = [at - curve.at[0] for at in curve.at]
        axes.plot(
            seconds,
            [count / MEGABYTE for count in curve.size_bytes],
            color=curve.colour,
            label=curve.name,
            linewidth=1.2,
        )
    if panel.limit_bytes is not None:
        axes.axhline(panel.limit_bytes / MEGABYTE, color="#444444", linewidth=0.8, linestyle=":", label="limit")
    since = panel.curves[0].at[0]
    for number, (began, ended) in enumerate(panel.alarms):
        axes.axvspan(
            began - since,
            min(ended, panel.curves[0].at[-1]) - since,
            color=_ALARM,
            linewidth=0,
            label="" if number else "publishers wait",
        )
    shown = set()
    for done in panel.passes:
        label = "" if done.level in shown else f"pass: {done.level}"
        shown.add(done.level)
        axes.axvline(done.began_at - since, color=_LEVELS[done.level], linewidth=0.9, linestyle="--", label=label)
    axes.set_title(panel.title, fontsize=9, loc="left")
    axes.set_ylabel("MB", fontsize=8)
    if panel.is_logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:,.0f}")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.tick_params(labelsize=8)
    axes.grid(linewidth=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
