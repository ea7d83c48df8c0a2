"""Shared by all plots: a figure with title and note, axes placed in inches, colours, percentages.

The header grows with its text and axes are placed below it, so nothing overlaps and no layout
engine has to draw everything twice.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap as wrap_text
from typing import Any

import numpy as np
from matplotlib import rc_context, rcParamsDefault
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

# Okabe and Ito's colours, distinct with any colour vision; blue is correct, vermillion is wrong.
BLUE, VERMILLION = "#0072B2", "#D55E00"
INK, GREY, PALE, TILE = "#222222", "#6B7280", "#D1D5DB", "#F1F3F5"
# The colour cycle, without their yellow, which is invisible on white.
LINES = [BLUE, VERMILLION, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]

# The same figure is the same file: no date in it, no ids by chance. Hinting takes a tenth longer.
STYLE: dict[Any, Any] = {
    key: value for key, value in rcParamsDefault.items() if not key.startswith("backend")
}
STYLE |= {
    "svg.hashsalt": "mnist_exp", "text.hinting": "none",
    "axes.axisbelow": True, "axes.edgecolor": PALE, "axes.labelcolor": INK, "axes.labelsize": 9,
    "axes.spines.right": False, "axes.spines.top": False, "grid.color": PALE, "grid.linewidth": 0.6,
    "image.aspect": "auto", "legend.frameon": False,
}  # fmt: skip
for axis in ("xtick", "ytick"):
    STYLE |= {f"{axis}.color": PALE, f"{axis}.labelcolor": INK}
    STYLE |= {f"{axis}.labelsize": 9, f"{axis}.major.size": 3}
OPTIONS: Mapping[str, dict[str, Any]] = {
    "png": {"pil_kwargs": {"compress_level": 3}},  # half the time of 6, a tenth more bytes
    "svg": {"metadata": {"Date": None}},
    "pdf": {"metadata": {"CreationDate": None}},
}

Array = NDArray[Any]
Names = Sequence[str]

# A decorator: no matplotlibrc or style sheet changes a figure (usetex would need LaTeX).
in_own_style = rc_context(STYLE)


def new_figure(width: float, height: float, title: str, note: str) -> Figure:
    """A figure with `height` inches of body below a header that fits title and note."""
    title_lines = _wrap(title, width - 0.7, size=12, weight="bold")
    note_lines = _wrap(note, width - 0.7, size=9)
    top = round(0.35 + 0.22 * len(title_lines) + 0.17 * len(note_lines), 2)
    figure = Figure(figsize=(width, height + top), dpi=100)
    x, y = 0.25 / width, (height + top - 0.15) / (height + top)
    style: dict[str, Any] = {"va": "top", "parse_math": False, "linespacing": 1.2}
    figure.text(x, y, "\n".join(title_lines), fontsize=12, fontweight="bold", color=INK, **style)
    y -= (0.22 * len(title_lines) + 0.04) / (height + top)
    figure.text(x, y, "\n".join(note_lines), fontsize=9, color=GREY, **style)
    return figure


def _wrap(text: str, width: float, **font: Any) -> list[str]:
    """The text broken into lines of at most `width` inches in this font."""
    face = FontProperties(**font)
    text = re.sub(r" (?=%)|(?<=%) ", "\N{NO-BREAK SPACE}", text)  # no line ends at "95 %"
    columns, lines = len(text), [text]
    while columns > 1:
        sizes = (text_to_path.get_text_width_height_descent(line, face, False) for line in lines)
        widest = max(size[0] for size in sizes) / 72
        if widest <= width:
            break
        columns = min(columns - 1, int(columns * width / widest))
        lines = wrap_text(text, max(1, columns), break_on_hyphens=False)
    return lines


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at this position in inches."""
    full_width, full_height = figure.get_size_inches()
    bounds = left / full_width, bottom / full_height, width / full_width, height / full_height
    return figure.add_axes(bounds)


@in_own_style
def save(
    figures: Mapping[str, Figure], folder: Path, formats: Sequence[str], dpi: int = 100
) -> None:
    """Write each figure as <name>.<format> into the folder, which is made when missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        for kind in formats:
            figure.savefig(folder / f"{name}.{kind}", **OPTIONS[kind] | {"dpi": dpi})


def draw(
    calls: Mapping[str, Sequence[Any]], folder: Path, formats: Sequence[str], dpi: int
) -> None:
    """Save the figure that each call, a plot with its arguments, returns."""
    save({name: plot(*given) for name, (plot, *given) in calls.items()}, folder, formats, dpi)


def text_at(axes: Axes, x: float, y: float, text: str, size: float = 7, **style: Any) -> None:
    """Draw literal `text`, without mathtext, at (x, y) in data coordinates."""
    style = {"va": "center", "color": INK} | style
    axes.text(x, y, text, fontsize=size, parse_math=False, **style)


def box(left: float, bottom: float, right: float, top: float) -> list[tuple[float, float]]:
    """The corners of a rectangle, for a collection."""
    return [(left, bottom), (right, bottom), (right, top), (left, top)]


def blend(amount: Array, low: str, high: str) -> Array:
    """Colours (..., 3) between `low` at 0 and `high` at 1."""
    start, end = np.array(to_rgb(low)), np.array(to_rgb(high))
    return np.asarray(start + amount[..., None] * (end - start))


def percent(share: float) -> str:
    """'97.3 %'; never '100.0 %' below 1."""
    return ">99.9 %" if 0.9995 <= share < 1 else f"{100 * share:.1f} %"
