"""docs/thesis.md has every section and question of the thesis, and its figures stand on the pages that it names."""

import re
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "thesis.md"
TEXT = PAGE.read_text(encoding="utf-8")

#: The thesis's table of contents.
SECTIONS = (
    "1 1.1 2 2.1 2.1.1 2.2 2.2.1 2.2.2 2.2.3 2.3 2.3.1 2.3.2 2.3.3 2.4 2.4.1 2.5 2.5.1 2.6 2.6.1 2.7 2.7.1 2.7.2 2.7.3 "
    "3 4 5"
).split()
#: Of its chapter 1, word for word.
QUESTIONS = (
    "Which models are running slow in Mobile Devices?",
    "Why these models are running slow?",
    "Which methods can we use to optimize these models?",
    "What is the trade off of using these methods?",
    "Why an optimization technique is working or not on a model?",
    "Can we define a more optimized model for the same task?",
    "How can we combine different optimization techniques?",
    "Are these optimized models efficient enough to run in Mobile Devices?",
)
SECTION_TABLE, ERROR_TABLE = "## Where each section is done", "## Errors, and what holds instead"
CHAPTERS = ("## Chapter 3: Results", "## Chapter 4: Discussion", "## Chapter 5: Conclusion")

#: A number that stands alone. None are those of ResNet-20, int8, 5×5, 224², §2.6 and Table 2.2.
NUMBER = r"(?<![\w.,§-])(?<!\d×)(?<!Table )-?\d+(?:\.\d+)?(?:e-?\d+)?(?!\w)(?!\.\d)(?!×\d)"
FIGURE = rf"{NUMBER}(?: ± {NUMBER})?"
#: Pages of results, and the tests that a correction may rest on.
SOURCE = r"\[[^\]]*\]\(((?:results|\.\./tests)/[\w-]+\.\w+)\)"


def plain(text):
    """With one kind of minus and of space, and without marks of thousands: pages and code differ in them."""
    text = re.sub(r"\s+", " ", text.replace("−", "-"))
    return re.sub(r"(?<=\d)[,_](?=\d{3}(?!\d))", "", text)


def figures(text):
    return re.findall(FIGURE, plain(text))


@lru_cache
def figures_of(source):
    """All that a page or test states: each number, and each with its deviation; those below zero also as a size, since
    a sentence may have the sign in its words ("loses 0.07 points")."""
    text = (PAGE.parent / source).read_text(encoding="utf-8")
    stated = {*figures(text), *re.findall(NUMBER, plain(text))}
    return stated | {figure.removeprefix("-") for figure in stated}


def claims(block):
    """Pairs of text and the sources that it names: for a row of a table all in it, else the next behind the text."""
    if block.startswith("|"):
        yield block, re.findall(SOURCE, block)
        return
    start = 0
    for links in re.finditer(rf"(?:{SOURCE}(?:, | and )?)+", block):
        yield block[start : links.start()], re.findall(SOURCE, links.group())
        start = links.end()
    yield block[start:], []


def unsourced(block):
    """Figures that no source of theirs has; where there is no source, those that look measured."""
    missing = []
    for text, sources in claims(block):
        stated = set().union(*map(figures_of, sources))
        for figure in figures(re.sub(r"\]\([^)]*\)", "]", text)):
            if figure not in stated and (sources or re.search(r"[.±e]|\d{5}", figure)):
                missing.append(figure)
    return missing


def part(heading):
    """What stands below a heading, up to the next of its rank or of a higher one."""
    rank = len(heading.split(" ")[0])
    found = re.search(rf"^{re.escape(heading)}$\n(.*?)(?=^#{{1,{rank}}} |\Z)", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert found, f"no heading {heading!r}"
    return found.group(1)


def rows(heading):
    return [line for line in part(heading).splitlines() if line.startswith("|")][2:]


def cells(row):
    return [cell.strip() for cell in row.strip().strip("|").split(" | ")]


def paragraphs(text):
    return [block for block in re.split(r"\n\s*\n", text) if block.strip() and block[0] not in "|#<"]


def slug(heading):
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


def test_every_section_has_its_code_and_results():
    table = [cells(row) for row in rows(SECTION_TABLE)]
    assert [re.match(r"§([\d.]+) ", section).group(1) for section, _, _ in table] == SECTIONS
    for section, code, results in table:
        assert re.search(r"\]\([^)]+\)", code), f"{section} has no link to what does it"
        assert re.search(r"\]\((results/|#)", results), f"{section} has no link to what came of it"


@pytest.mark.parametrize(("number", "question"), enumerate(QUESTIONS, 1))
def test_every_question_is_answered_with_figures(number, question):
    answers = paragraphs(part(f"### {number}. {question}"))
    assert answers
    (text, sources), *_ = claims(answers[0])
    assert sources
    assert figures(text)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_empty_chapters_are_written(chapter):
    found = paragraphs(part(chapter))
    assert len(found) >= 3
    assert any(sources for block in found for _, sources in claims(block))


def test_every_figure_stands_in_its_source():
    errors = rows(ERROR_TABLE)
    # What the thesis says, the second column, is quoted.
    corrected = [" | ".join(["|", *(c for i, c in enumerate(cells(row)) if i != 1)]) for row in errors]
    other = [line for line in TEXT.splitlines() if line.startswith("| ") and line not in errors]
    checked = [*paragraphs(TEXT), *corrected, *other]
    assert [f"{figure}: {block[:60]}" for block in checked for figure in unsourced(block)] == []


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("The slowest takes 392.5 ms ([costs](results/model-costs.md)).", []),
        ("The slowest takes 392.6 ms ([costs](results/model-costs.md)).", ["392.6"]),
        ("Of 11,065,088 MACs 767,150, −0.02 ± 0.04\npoints ([job](results/main-job.md)).", []),
        ("It loses 0.02 ± 0.04 points, not −12.8 ([job](results/main-job.md)).", ["-12.8"]),
        ("It loses 0.02 ± 0.05 points ([job](results/main-job.md)).", ["0.02 ± 0.05"]),
        ("One of 1.3 s, one of 392.5 ms ([job](results/main-job.md), [costs](results/model-costs.md)).", ["1.3"]),
        ("392.5 ([costs](results/model-costs.md)), and 392.5 ([job](results/main-job.md)).", ["392.5"]),
        ("ResNet-20, 5×5, §2.6 and Table 2.3 of 2017 ([job](results/main-job.md))", ["2017"]),
        ("At the end, in 2017, 12.8 × and 14,096 without a source.", ["12.8", "14096"]),
        ("| 12.8 | [job](results/main-job.md) | 392.5 | [costs](results/model-costs.md) | 392.4 |", ["392.4"]),
    ],
)
def test_a_figure_that_is_not_there_is_seen(text, missing):
    assert unsourced(text) == missing


def test_every_page_of_results_is_taken_up():
    pages = {path.name for path in (ROOT / "docs" / "results").glob("*.md")}
    assert pages - set(re.findall(r"\(results/([\w-]+\.md)\)", TEXT)) == set()


def test_links_lead_to_what_they_name():
    headings = {slug(heading) for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)}
    broken = []
    for name, target in re.findall(r"\[([^\]]*)\]\(([^)]+)\)", TEXT):
        path = PAGE.parent / target
        if target.startswith("#"):
            broken += [target] if target[1:] not in headings else []
        elif not path.exists():
            broken.append(target)
        elif path.suffix == ".py":
            code = path.read_text(encoding="utf-8")
            words = re.findall(r"`(\w+)`", name)
            broken += [f"{target}: {word}" for word in words if not re.search(rf"\b{word}\b", code)]
            broken += [] if words else [f"{target}: nothing named"]
    assert not broken


def test_the_toy_networks_of_the_thesis():
    """Section 2.2.2: one ReLU unit for i1 + i2 on [-1, 1]², as its text says, as it prints one, and as it is right."""
    i = np.random.default_rng(0).uniform(-1, 1, (1000, 2))
    y = i.sum(1)

    def network(w1, b1, w2, b2):
        return np.maximum(i @ np.array(w1) + b1, 0) * w2 + b2

    said = network([1, 1], 0, 1, 0)
    assert np.allclose(said, np.maximum(y, 0))
    assert np.abs(said - y).max() > 1
    printed = network([0.74285096, 0.64994317], 7.80925274, -6.75151157, 7.80925274)
    assert np.abs(printed - y).min() > 30
    assert np.corrcoef(printed, y)[0, 1] < -0.99
    assert np.allclose(network([1, 1], 2, 1, -2), y)
    assert np.abs(network([1, 1], 1.5, 1, -1.5) - y).max() > 0.1
