"""Draws a sensitivity scan as one HTML page that needs nothing beside itself."""

from paredown.files import write_text
from paredown.report import fat, heat_map


def render_scan(scan: dict) -> str:
    """The page.

    Args:
        scan: As `Scan.to_dict()` gives it.
    Returns:
        HTML; style, scripts and the figure inside.
    """
    from plotly.offline import get_plotlyjs

    from paredown.report.page import templates

    figure = heat_map.heat_map(scan)
    labels = {method["name"]: method["label"] for method in scan["methods"]}
    groups: dict[tuple[str, str], list[str]] = {}
    for skip in scan["skips"]:
        groups.setdefault((labels.get(skip["method"], skip["method"]), skip["reason"]), []).append(skip["layer"])
    return (
        templates()
        .get_template("scan.html.j2")
        .render(
            scan=scan,
            labels=labels,
            fattest=fat.fattest(scan),
            bone=fat.bone(scan),
            free=fat.FREE,
            saved=heat_map.saved,
            loss=heat_map.loss,
            skip_groups=sorted(groups.items(), key=lambda one: -len(one[1])),
            figures={"heat-map": figure},
            plotly_js=get_plotlyjs() if figure else "",
        )
    )


def write_scan(scan: dict, path) -> None:
    """Renders the scan and writes the page; an older page stays whole until the new one is.

    Raises:
        OutputError: If the page cannot be written.
    """
    write_text(path, render_scan(scan))
