"""A stranger's words in the log: one line stays one line, and none of them passes for a part of the log."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from airflow_agent_tasks.text import MAX_QUOTED, MAX_QUOTED_LINES, clean, quote_lines, shorten

#: Zero width joiner and non-joiner: some scripts cannot be written without them.
JOINERS = "\u200c\u200d"
UNSAFE = [
    character
    for character in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"} and character not in JOINERS
]
UNSAFE += ["\ud800", "\udfff", "\r\n", "\x1b[31m", "\x1b]8;;http://evil.example\x07", "\n\n", "\u202e\u2066"]
#: Where each of them is put.
PLACES = ["{}", "{}a", "a{}", "a{}b", "a{0}{0}b", "{0}a{0}b{0}", "::{}group::x", "a {} b"]
#: What the log view of the Airflow UI looks for, wherever it stands in a line.
MARKERS = ["::group::", "::endgroup::"]


def has_unsafe(line: str) -> bool:
    return any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c not in JOINERS for c in line)


@pytest.mark.parametrize("place", PLACES)
def test_one_line_stays_one_line_whatever_is_in_it(place: str) -> None:
    for unsafe in UNSAFE:
        line = shorten(place.format(unsafe))
        assert len(line.splitlines()) <= 1
        assert not has_unsafe(line)
        assert not any(marker in line for marker in MARKERS)


@pytest.mark.parametrize("place", PLACES)
def test_each_line_of_a_quotation_is_marked_whatever_is_in_it(place: str) -> None:
    for unsafe in UNSAFE:
        quoted = quote_lines(place.format(unsafe))
        assert all(line == "  |" or line.startswith("  | ") for line in quoted.split("\n"))
        assert quoted.split("\n") == quoted.splitlines()
        assert not any(has_unsafe(line) for line in quoted.split("\n"))
        assert not any(marker in quoted for marker in MARKERS)


@pytest.mark.parametrize("quote", [shorten, quote_lines])
@pytest.mark.parametrize("marker", [*MARKERS, "::GROUP::", "::EndGroup::"])
@pytest.mark.parametrize(
    "place", ["{}", "a{}b", ":{}", "{0}{0}", ":::{}", "::gr\u200boup::", "::end{}", "{}\n{}", "[INFO] {} x"]
)
def test_no_marker_of_the_log_view_is_left(quote: object, marker: str, place: str) -> None:
    assert callable(quote)
    quoted = quote(place.format(marker, marker))
    # The words around, which are ours, may end or begin with a colon.
    for line in f":{quoted}:".split("\n"):
        assert not any(found in line.lower() for found in MARKERS)


def test_other_colons_are_left() -> None:
    for text in ("std::vector", "fe80::1", "group: A", "see arn:aws:iam::1:group/x", "http://[::1]:80/"):
        assert shorten(text) == text
        assert quote_lines(text) == f"  | {text}"


def test_what_people_write_is_left() -> None:
    for text in (
        "Ça va ?",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "👩\u200d🚀",
        "日本語　です",
        "a b",
    ):
        assert shorten(text) == text
        assert clean(text, 100) == text


def test_a_quotation_keeps_its_lines_and_their_indentation() -> None:
    assert quote_lines("Which?\r\n\n\t1. One\n  2. Two\n") == "  | Which?\n  |\n  |     1. One\n  |   2. Two"


def test_a_quotation_is_bounded() -> None:
    for text in (
        "x" * 1_000_000,
        "x\n" * 1_000_000,
        "\n" * 1_000_000,
        "\x00" * 1_000_000,
        "::group::" * 99_999,
    ):
        quoted = quote_lines(text)
        lines = quoted.split("\n")
        assert lines[-1] == "  | … (shortened)"
        assert len(lines) <= MAX_QUOTED_LINES + 1
        assert len(quoted) < 2 * MAX_QUOTED


@pytest.mark.parametrize("limit", [1, 2, 10, 200])
def test_a_line_is_bounded(limit: int) -> None:
    for text in ("x" * 1000, "::group::" * 1000, "\x00" * 1000 + "x", "x" * limit + "y"):
        line = shorten(text, limit)
        assert len(line) <= limit
        assert line.endswith("…")
    assert shorten("x" * limit, limit) == "x" * limit


@pytest.mark.parametrize("run", ["\r\n", "\n\n\n", "\x1b\x07", "\u2028\x85"])
def test_a_run_of_them_becomes_one_space(run: str) -> None:
    assert shorten(f"{run}a{run}b{run}") == "a b"
