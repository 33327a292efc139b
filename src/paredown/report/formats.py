"""Figures as people read them. A figure nobody knows is `unknown`, never 0."""

import math

UNKNOWN = "unknown"
#: Stands where there is nothing that could have a figure.
ABSENT = "\u2013"
MINUS = "\u2212"

_COUNT_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k"))
_BYTE_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def digits(value: float, significant: int = 3) -> str:
    """`value` with `significant` digits, never in scientific notation: 0.0421, 4.21, 421, 42,100."""
    if not math.isfinite(value):
        return "∞" if value > 0 else "not a number" if math.isnan(value) else f"{MINUS}∞"
    if value == 0:
        return "0"
    # The exponent after rounding: 0.99996 is 1.000 with four digits.
    decimals = significant - 1 - int(f"{value:.{significant - 1}e}".partition("e")[2])
    return f"{round(value, decimals):,.{max(0, decimals)}f}".replace("-", MINUS)


def count(value: float | None) -> str:
    """A number of things: 512, 9,408, 454.9 k, 11.07 M."""
    if value is None:
        return UNKNOWN
    for unit, name in _COUNT_UNITS:
        # 0.99995: what would round to 1000.0 of the smaller unit is 1.000 of the larger.
        if abs(value) >= unit * 0.99995:
            scale = 1e3 if name == "k" else unit
            return f"{digits(value / scale, 4)} {name}"
    return f"{value:,.0f}"


def size(value: float | None) -> str:
    """Bytes in decimal units: 512 bytes, 24.1 kB, 1.82 MB."""
    if value is None:
        return UNKNOWN
    for unit, name in _BYTE_UNITS:
        if value >= unit * 0.9995:
            return f"{digits(value / unit)} {name}"
    return f"{value:,.0f} bytes"


def ms(value: float | None) -> str:
    """Milliseconds: 0.0421 ms, 4.21 ms."""
    return UNKNOWN if value is None else f"{digits(value)} ms"


def seconds(value: float | None) -> str:
    """Seconds up to two minutes, minutes above: 0.42 s, 61 s, 3.5 min."""
    if value is None:
        return UNKNOWN
    return f"{digits(value, 2)} s" if value < 120 else f"{digits(value / 60, 2)} min"


def factor(value: float | None) -> str:
    """A ratio: 12.3 ×."""
    return UNKNOWN if value is None else f"{digits(value)} ×"


def score(value: float | None, metric: str) -> str:
    """A score in its own unit: accuracy in percent with two decimals, an error with four digits."""
    if value is None:
        return UNKNOWN
    return f"{100 * value:.2f} %" if metric == "accuracy" else digits(value, 4)


def score_change(before: float | None, after: float | None, metric: str) -> str:
    """What a score became: accuracy in points, an error as a plain difference."""
    if before is None or after is None:
        return UNKNOWN
    difference = after - before
    text = f"{abs(100 * difference):.2f} points" if metric == "accuracy" else digits(abs(difference))
    sign = "±" if not float(text.split()[0].replace(",", "")) else "+" if difference > 0 else MINUS
    return sign + text


def shape(value) -> str:
    """A shape without its batch axis: 28 × 28 × 16."""
    return UNKNOWN if value is None else " × ".join(map(str, value)) or "one number"
