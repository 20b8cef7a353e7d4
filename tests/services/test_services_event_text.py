"""Log lines from untrusted text, and sentences from deltas."""

from __future__ import annotations

import random
import time
from base64 import b64encode

import pytest

from airflow_agent_tasks.services.event_text import MAX_LINE, MAX_SENTENCE, SentenceJoiner, to_line

PROSE = (
    "First I open the page. Then, with version 3.5 of the tool, I look at it! Is it there?\n"
    + "It is: “Done.” Now "
    + "a long clause, and another one " * 12
    + "… and the end"
)
IMAGE = b64encode(bytes(range(256)) * 8).decode()


def join(*deltas: str) -> list[str]:
    joiner = SentenceJoiner()
    return [line for delta in deltas for line in joiner.add(delta)] + joiner.flush()


def cut(text: str, seed: int) -> list[str]:
    draw = random.Random(seed)  # noqa: S311
    cuts = sorted(draw.randrange(len(text) + 1) for _ in range(len(text) // 4))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("hello", "hello"),
        ("a\nb\x1b[31m\u202ec", "a b [31m c"),
        (f"see data:image/png;base64,{IMAGE} there", "see [data]…"),
        (f"see {IMAGE[:200]} there", "see [data] there"),
        (f"{IMAGE[:76]}\r\n{IMAGE[76:152]}\r\n{IMAGE[152:180]}==", "[data]"),
        ("https://example.com/a-long-path/with/many/parts-and-words/that-stays?as=it&is=1", None),
        ("word " * 200, ("word " * 200)[: MAX_LINE - 1] + "…"),
        (" \n ", ""),
        ("::group::x", ":: group::x"),
    ],
)
def test_a_line_is_safe_and_has_no_data(text: str, line: str | None) -> None:
    shown = to_line(text)
    assert shown == (text if line is None else line)
    assert len(shown) <= MAX_LINE


def test_sentences_end_where_they_end() -> None:
    assert join("Hello wor", "ld. I", "t is 3", ".5, or so", "! “Good.” ", "Line\nNext", " one") == [
        "Hello world.",
        "It is 3.5, or so!",
        "“Good.”",
        "Line",
        "Next one",
    ]


def test_a_sentence_comes_with_the_delta_that_ends_it() -> None:
    joiner = SentenceJoiner()
    assert joiner.add("One.") == []
    assert joiner.add(" ") == ["One."]
    assert joiner.add("Two") == []
    assert joiner.flush() == ["Two"]
    assert joiner.flush() == []


@pytest.mark.parametrize("seed", range(20))
def test_lines_are_the_same_however_the_text_is_cut(seed: int) -> None:
    assert join(*cut(PROSE, seed)) == join(PROSE)


@pytest.mark.parametrize("seed", range(5))
def test_no_word_is_split_or_lost(seed: int) -> None:
    lines = join(*cut(PROSE, seed))
    assert " ".join(lines).split() == PROSE.split()
    assert all(len(line) <= MAX_SENTENCE for line in lines)


def test_a_secret_that_no_delta_has_whole_is_redacted() -> None:
    joiner = SentenceJoiner(lambda text: text.replace("sk_secret", "***"))
    assert joiner.add("The key is sk_se") + joiner.add("cret. It is sk_") == ["The key is ***."]
    assert joiner.add("secret") + joiner.flush() == ["It is ***"]


def test_a_text_without_spaces_ends_at_its_own_full_stops() -> None:
    assert join("你好。再", "见!") == ["你好。", "再见!"]


def test_a_long_word_is_one_line_and_the_words_after_it_are_kept() -> None:
    assert join(*cut(IMAGE * 4 + " and then this.", 1)) == ["[data]…", "and then this."]


@pytest.mark.parametrize("text", ["x" * 99, ". ", ".", "a" * 250 + " ", "\n", '."', " ", "data:a/b;base64,"])
def test_hostile_text_costs_no_more_memory_and_time_than_its_length(text: str) -> None:
    joiner = SentenceJoiner()
    begun = time.process_time()
    for _ in range(3):
        joiner.add(text * (60_000 // len(text)))
        assert len(joiner._rest) <= 4_000
    for _ in range(5_000):
        joiner.add(text)
        assert len(joiner._rest) <= 4_300
    assert time.process_time() - begun < 10.0
