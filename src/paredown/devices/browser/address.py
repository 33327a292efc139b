"""The address that a phone opens, and its QR code for the terminal."""

import socket

# Light around the code, in modules; four is what the standard asks for, two is what every reader takes.
_BORDER = 2
# Upper and lower module of one character -> the character, dark modules drawn.
_HALVES = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}
_BLACK_ON_WHITE, _RESET = "\x1b[30;107m", "\x1b[0m"


def lan_address() -> str:
    """This computer's address in the network that leads out; 127.0.0.1 where there is none. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # An address kept for documentation: connecting a datagram socket only looks up the route.
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"


def url(host: str, port: int, token: str, https: bool) -> str:
    """The page's address."""
    return f"{'https' if https else 'http'}://{host}:{port}/{token}/"


def qr_text(content: str, colour: bool) -> str:
    """A QR code as lines of text, two rows of modules to a line.

    Args:
        content: What it says.
        colour: Set black on white with ANSI codes, whatever the terminal's own colours; without, the terminal's
            foreground is the dark.
    """
    import segno

    rows = [list(row) for row in segno.make(content, error="m", micro=False).matrix_iter(border=_BORDER)]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    pairs = (zip(upper, lower, strict=True) for upper, lower in zip(rows[::2], rows[1::2], strict=True))
    lines = ["".join(_HALVES[pair] for pair in line) for line in pairs]
    return "\n".join(f"{_BLACK_ON_WHITE}{line}{_RESET}" if colour else line for line in lines)
