"""The guide, followed in an empty folder: its commands run, and print what it shows, but for the figures."""

import contextlib
import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from paredown.cli.main import run

PAGE = Path(__file__).parent.parent / "docs" / "guide.md"

#: All that is changed of the page, so that it takes seconds: how long the network is trained and the search goes on,
#: and a limit that is kept by whatever is found in that time.
QUICK = {
    "epochs=20": "epochs=1",
    "--max-latency 0.5x --max-drop": "--max-latency 0.9x --max-drop",
    "--hours 0.1 ": "--hours 0.002 --trials 1 ",
    "--hours 0.02 ": "--hours 0.002 --trials 1 ",
}

#: What differs from one run to the next, in the order in which it is looked for: figures with their units, then words.
VARIES = (
    # A measured layer: what binds it, how far and what would help follow from its time.
    (r"^ *(\w+) +([A-Z_0-9]+) +[\d.]+ (ms|µs|s) .*", r"\1 \2 as measured"),
    (r"\d+ layers? left alone(, reasons in the report)?", "# left alone"),
    (r"█+", ""),
    (r"[−+±-]?\d[\d,]*(\.\d+)?(e-?\d+)?", "#"),
    (r"# (ms|µs|s|min)\b", "# time"),
    (r"# (bytes|kB|MB)", "# size"),
    (r"# [kM]\b(?! MACs/s)", "#"),
    (r"# points (gained|lost of # allowed)", "# points lost or gained"),
    (r"[─━]+", ""),
    (r"\s+", " "),
)


@dataclass(frozen=True)
class Block:
    """A fenced block of the page: commands, Python, or what the block before it prints."""

    language: str
    text: str


@dataclass(frozen=True)
class Done:
    """What a block came to: what it printed, and the status of each command."""

    printed: str
    statuses: tuple[int, ...] = ()


def blocks() -> list[Block]:
    text = PAGE.read_text(encoding="utf-8")
    return [Block(*found) for found in re.findall(r"^```(python|sh|text)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


BLOCKS = blocks()


def quick(text: str) -> str:
    for there, here in QUICK.items():
        text = text.replace(there, here)
    return text


def commands(text: str) -> list[list[str]]:
    """The arguments of each `paredown` of a block; lines that end in a backslash go on."""
    lines = [shlex.split(line, comments=True) for line in quick(text).replace("\\\n", " ").splitlines()]
    assert all(line[0] == "paredown" for line in lines if line)
    return [line[1:] for line in lines if line]


def form(line: str) -> str:
    """A line without what differs from run to run."""
    for pattern, instead in VARIES:
        line = re.sub(pattern, instead, line)
    return line.strip()


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """Place of a block -> what it did, all of them in order in one empty folder."""
    names, done = {}, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("guide"))
        for place, block in enumerate(BLOCKS):
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                statuses = ()
                if block.language == "python":
                    exec(compile(quick(block.text), "guide.md", "exec"), names)
                elif block.language == "sh":
                    statuses = tuple(run(arguments) for arguments in commands(block.text))
            done[place] = Done(printed.getvalue(), statuses)
        yield done


def shown() -> list[tuple[int, int]]:
    """(place of a block of output, place of the block that prints it): the nearest before it that does something."""
    return [
        (place, max(p for p in range(place) if BLOCKS[p].language != "text"))
        for place, block in enumerate(BLOCKS)
        if block.language == "text"
    ]


@pytest.mark.parametrize(("there", "source"), shown())
def test_what_the_page_shows_is_what_is_printed(followed, there, source):
    printed = {form(line) for line in followed[source].printed.splitlines()}
    missing = [line for line in BLOCKS[there].text.splitlines() if line.strip() and form(line) not in printed]
    assert not missing, followed[source].printed


def test_every_command_ends_as_the_page_says(followed):
    statuses = [
        (arguments, status)
        for place, block in enumerate(BLOCKS)
        if block.language == "sh"
        for arguments, status in zip(commands(block.text), followed[place].statuses, strict=True)
    ]
    assert [status for arguments, status in statuses if "tiny" not in arguments] == [0] * (len(statuses) - 1)
    assert [status for arguments, status in statuses if "tiny" in arguments] == [3]


def test_every_quick_form_is_used():
    text = PAGE.read_text(encoding="utf-8")
    assert [there for there in QUICK if there not in text] == []


def test_a_figure_that_is_of_another_form_is_seen():
    assert form("Latency  0.0421 ms  −12.3 %") == form("Latency 4.21 µs 3 %")
    assert form("Latency  0.0421 ms") != form("Latency  0.0421 kB")
    assert form("The limits are kept: latency 91% of the limit 0.5x.") != form(
        "Not met: latency 91% of the limit 0.5x."
    )


def test_whoever_stops_a_search_is_told_that_it_goes_on(tmp_path, monkeypatch, capsys):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("paredown.search.searching.search", stopped)
    (tmp_path / "m.keras").write_bytes(b"not looked into here")
    files = [str(tmp_path / "m.keras"), "--out", str(tmp_path / "out")]
    assert run(["search", *files, "--data", "digits", "--max-latency", "0.5x"]) == 130
    assert capsys.readouterr().err == "What was finished is kept: the same command goes on.\nInterrupted.\n"
