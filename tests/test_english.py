"""The glossary of CONTRIBUTING.md: phrases that this project replaced do not come back in its pages and its sources."""

import functools
import io
import itertools
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GLOSSARY = "## Glossary"  # the section of CONTRIBUTING.md that names the phrases, and may
# Each with its pattern, where one space stands for any white space, and with what to write instead.
PHRASES = {
    "cut off": (r"\bcut(?:s|ting)? off\b", "interrupted"),
    "go on": (r"\b(?:go|goes|going|went|gone) on\b", "resume, continue, last"),
    "mend": (r"\bmend(?:s|ed|ing)?\b", "fix"),
    "Sees that": (r"\b(?-i:Sees) that\b", "Checks that"),
    "bears": (r"\bbears?\b", "tolerate"),
    "random numbers": (r"\b(?:from|of) random numbers\b", "from scratch, randomly initialised"),
    "is no": (r"\b(?:is|are|was|were) no\b", "is not a"),
    "likewise.": (r"(?m:\b\w+: likewise\.?$)", "what it is"),
}
# Wordings that look like one of the phrases and are good English.
ALLOWED = (
    r"\bthere (?:is|are|was|were) no\b",
    r"\b(?:is|are|was|were) no (?:longer|more|less|\w+er than)\b",
)
STRINGS = {tokenize.STRING, *(getattr(tokenize, f"FSTRING_{part}", None) for part in ("START", "MIDDLE", "END"))}
LAYOUT = {tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
SOURCES = sorted(path for folder in ("mgmae_jax", "configs") for path in (ROOT / folder).rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def blank(found: re.Match) -> str:
    return " " * len(found[0])


def prose(source: str) -> str:
    """A Python text's comments and strings where they stand, without quotes; a semicolon for each sign of code.

    White space is all that is left between the lines of a comment and between strings that Python joins, so that a
    phrase is found across them.
    """
    starts = list(itertools.accumulate(map(len, io.StringIO(source)), initial=0))
    parts, end = [], 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        start, before = starts[token.start[0] - 1] + token.start[1], end
        end = starts[token.end[0] - 1] + token.end[1]
        text = source[start:end]
        if token.type == tokenize.COMMENT or token.type in STRINGS:
            text = re.sub(r"""^(?:#+|\w*["']+)|["']+$""", blank, text)
        elif token.type not in LAYOUT:
            text = re.sub(r"\S", ";", text)
        parts += [source[before:start], text]
    return "".join(parts)


def page(markdown: str) -> str:
    """A page's text with an empty glossary, on lines of the same numbers."""
    return re.sub(rf"(?ms)^{GLOSSARY}$.*?(?=^## |\Z)", lambda found: "\n" * found[0].count("\n"), markdown)


def hits(phrase: str, text: str) -> list[int]:
    """The numbers of the lines on which a phrase begins."""
    pattern = "|".join([*ALLOWED, f"(?P<hit>{PHRASES[phrase][0]})"]).replace(" ", r"\s+")
    found = [match for match in re.finditer(pattern, text, re.IGNORECASE) if match["hit"]]
    return [text.count("\n", 0, match.start()) + 1 for match in found]


@functools.cache
def texts() -> dict[str, str]:
    read = {path: prose(path.read_text(encoding="utf-8")) for path in SOURCES}
    read |= {path: page(path.read_text(encoding="utf-8")) for path in PAGES}
    return {str(path.relative_to(ROOT)): text for path, text in read.items()}


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_replaced_phrase_does_not_come_back(phrase: str):
    found = [f"{name}:{line}" for name, text in texts().items() for line in hits(phrase, text)]
    assert not found, f"{phrase!r}: write {PHRASES[phrase][1]} (CONTRIBUTING.md, Glossary):\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("phrase", "source", "lines"),
    [
        ("go on", '"""A run\n\ngoes\non."""', [3]),
        ("cut off", "x = 1  # a row\n# that was cut\n# off", [2]),
        ("is no", 'raise ValueError(f"{path} is "\n    f"no video")', [1]),
        ("is no", "def f():\n    '''Says what is no difference.'''", [2]),
        ("is no", '"there is no file, which is no longer there"', []),
        ("is no", '"it is no larger than this, and is no folder"', [1]),
        ("is no", 'f("is", no="no")', []),
        ("mend", "mend = recommend(mend)  # as we recommend", []),
        ("Sees that", '"""Sees that a user sees that."""', [1]),
        ("random numbers", '"""Draws random numbers."""', []),
        ("likewise.", '"""F.\n\nArgs:\n  height: in pixels.\n  width: likewise.\n  cut: likewise of cuts.\n"""', [5]),
    ],
)
def test_phrases_are_found_in_comments_and_strings_only(phrase: str, source: str, lines: list[int]):
    assert hits(phrase, prose(source)) == lines


def test_the_glossary_may_name_the_phrases():
    text = "# Rules\n\nA run goes on.\n\n## Glossary\n\nmend\n\n## Licence\n\nMend it.\n"
    assert hits("mend", page(text)) == [11]
    assert hits("go on", page(text)) == [3]
    assert GLOSSARY in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
