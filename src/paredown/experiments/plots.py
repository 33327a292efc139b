"""Figures in one style: a palette that colour-blind readers can tell apart, lines that also differ by marker.

figure, axes = plots.axes("share of MACs removed (%)", "accuracy (%)")
plots.lines(axes, rows, x="removed_percent", y="accuracy_percent", by="criterion")
link = plots.save(figure, folder, "criteria-accuracy", "Accuracy over the share of MACs removed")
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paredown.errors import SettingError
from paredown.experiments.rows import grouped, spread
from paredown.files import replacing

#: Okabe and Ito's colours (Color Universal Design, 2008), the faint yellow left out.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
#: Dots per inch: with figures of 7 x 4.2 inches, 1050 pixels across.
DPI = 150

#: Where a point's name may stand: its alignment, and points across and up.
_SIDES = (
    ("left", (6, 0)),
    ("right", (-6, 0)),
    ("left", (4, -9)),
    ("right", (-4, 9)),
    ("left", (4, 9)),
    ("right", (-4, -9)),
    ("center", (0, -10)),
    ("center", (0, 10)),
)

_STYLE = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}


def axes(x: str | Sequence[str], y: str | Sequence[str], title: str | Sequence[str] = "") -> tuple[Any, Any]:
    """A figure and its axes.

    Args:
        x: Label of the horizontal axis, with its unit; several of them for panels side by side.
        y: Label of the vertical axis, with its unit; one for all panels, or one each.
        title: Above each panel.
    Returns:
        (figure, axes), or (figure, list of axes) where `x` names several.
    Raises:
        SettingError: If matplotlib is not installed.
    """
    rc_context, Figure = _matplotlib()
    labels = [x] if isinstance(x, str) else list(x)
    y_labels = [y] * len(labels) if isinstance(y, str) else list(y)
    titles = [title] * len(labels) if isinstance(title, str) else list(title)
    with rc_context(_STYLE):
        figure = Figure(figsize=(7.0 if len(labels) == 1 else 5.2 * len(labels), 4.2), dpi=DPI, layout="constrained")
        panels = list(figure.subplots(1, len(labels), squeeze=False)[0])
        for panel, x_label, y_label, above in zip(panels, labels, y_labels, titles, strict=True):
            panel.set_prop_cycle(color=PALETTE, marker=MARKERS)
            panel.set(xlabel=x_label, ylabel=y_label, title=above)
    return figure, panels[0] if isinstance(x, str) else panels


def lines(panel: Any, rows: Iterable[dict], x: str, y: str, by: str | None = None) -> None:
    """Draws the mean of `y` over `x`, one line for each value of `by`, the standard deviation as a band around it.

    Args:
        panel: Axes made by `axes`.
        rows: An experiment's rows, all seeds; those without the figure are left out.
        x: Name of a setting or figure that is the same in all seeds (means are taken at equal `x`).
        y: Name of a figure.
        by: Name of the setting that tells the lines apart; one line without it.
    """
    for (label,), group in (grouped(rows, by) if by else {(None,): list(rows)}).items():
        points = sorted((at, spread(part, y)) for (at,), part in grouped(group, x).items() if spread(part, y).values)
        places, spreads = [at for at, _ in points], [s for _, s in points]
        (line,) = panel.plot(places, [s.mean for s in spreads], label=label)
        low, high = ([s.mean + sign * s.deviation for s in spreads] for sign in (-1, 1))
        panel.fill_between(places, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    if by:
        panel.legend(title=by.replace("_", " "))


def bars(panel: Any, rows: Iterable[dict], x: str, y: str) -> None:
    """Draws the mean of `y` for each value of `x`, the standard deviation as a whisker."""
    groups = [(at, spread(part, y)) for (at,), part in grouped(rows, x).items()]
    panel.bar(
        [str(at) for at, _ in groups],
        [s.mean for _, s in groups],
        yerr=[s.deviation for _, s in groups],
        color=[PALETTE[place % len(PALETTE)] for place in range(len(groups))],
        capsize=4,
    )
    panel.grid(False, axis="x")


def named_points(panel: Any, points: Mapping[str, tuple[float, float]]) -> None:
    """Draws points with their names, each on the first side where it covers no other name and no other point.

    Args:
        panel: Axes made by `axes`, with their scales set.
        points: Name -> (x, y); fewer than a hundred.
    """
    from matplotlib.transforms import Bbox

    panel.plot(*zip(*points.values(), strict=True), "o", color=PALETTE[0])
    panel.figure.draw_without_rendering()
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in panel.transData.transform(list(points.values()))]
    for name, place in points.items():
        text = panel.annotate(name, place, (0, 0), textcoords="offset points", fontsize=8, va="center")
        for side, offset in _SIDES:
            text.set(ha=side, position=offset)
            if not text.get_window_extent().count_overlaps(taken):
                break
        taken.append(text.get_window_extent())


def save(figure: Any, folder: Path, name: str, shows: str) -> str:
    """Writes a figure as `folder/name.png`.

    Args:
        figure: Made by `axes`.
        folder: The page's folder.
        name: Begins with the experiment's name.
        shows: What it shows, for readers who cannot see it.
    Returns:
        The Markdown that shows it on the page.
    """
    rc_context, _ = _matplotlib()
    with rc_context(_STYLE), replacing(folder / f"{name}.png") as aside:
        # Without the software's version in it, the same figures give the same file.
        figure.savefig(aside, format="png", dpi=DPI, metadata={"Software": None})
    return f"![{shows}]({name}.png)"


def _matplotlib() -> tuple[Any, Any]:
    try:
        # The figure alone, not pyplot: nothing global, no window system.
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingError(
            f"An experiment's figures need matplotlib. Received: {error}. "
            "Install it with: pip install 'paredown[experiments]'"
        ) from error
    return rc_context, Figure
