"""A chat's title from its first message."""

import pytest

from chat.domain.title import MODEL_TITLE_CHARACTERS, TITLE_CHARACTERS, title_from, title_from_model, title_request

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
THUMB = "\U0001f44d\U0001f3fd"
FLAG = "\U0001f1f0\U0001f1f7"
DECOMPOSED_E = "e\u0301"
DECOMPOSED_HAN = "\u1112\u1161\u11ab"


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("Hello", "Hello"),
        ("  Hello \t  there  ", "Hello there"),
        ("\n\r\n \u2028 second line\nthird", "second line"),
        ("one\u2029two", "one"),
        ("a\x00b\x07c", "a b c"),
        ("안녕하세요, 반갑습니다", "안녕하세요, 반갑습니다"),
        ("", None),
        (" \n\t\u3000\n\x00", None),
        ("\u200b\n\ufeff\nseen", "seen"),
    ],
)
def test_it_is_the_first_line_that_says_something(content, title):
    assert title_from(content) == title


def test_exactly_as_long_as_allowed_it_is_left_whole():
    assert title_from("x" * TITLE_CHARACTERS) == "x" * TITLE_CHARACTERS


def test_a_long_one_is_cut_between_words():
    title = title_from("word " * 40)
    assert title == " ".join(["word"] * 12) + "…"


def test_one_long_word_is_cut_within():
    assert title_from("가" * 61) == "가" * (TITLE_CHARACTERS - 1) + "…"


def test_a_first_word_and_one_that_never_ends_are_cut_within_the_second():
    assert title_from("see " + "x" * 100) == "see " + "x" * 55 + "…"


@pytest.mark.parametrize("character", [FAMILY, THUMB, FLAG, DECOMPOSED_E, DECOMPOSED_HAN, "☀\ufe0f"])
@pytest.mark.parametrize("before", range(len(FAMILY) + 1))
def test_it_is_never_cut_inside_what_is_seen_as_one_character(character, before):
    title = title_from("x" * before + character * 60)
    assert title.endswith("…")
    whole, rest = divmod(len(title) - 1 - before, len(character))
    assert rest == 0
    assert title == "x" * before + character * whole + "…"
    assert len(title) <= TITLE_CHARACTERS


@pytest.mark.parametrize(
    ("reply", "title"),
    [
        ("A greeting", "A greeting"),
        ('"A greeting."', "A greeting"),
        ("\n\n  A\tgreeting  \nSecond line", "A greeting"),
        ("Title: A greeting", "A greeting"),
        ("**Title:** A greeting", "A greeting"),
        ("Song title: ideas", "Song title: ideas"),
        ("# A greeting", "A greeting"),
        ("- *A* greeting", "A greeting"),
        ("1. A greeting", "A greeting"),
        ("`make run` explained", "make run explained"),
        ("snake_case in Python", "snake_case in Python"),
        ("2 * 3 = 6", "2 * 3 = 6"),
        ("제목: 「인사」", "인사"),
        ("“인사말”", "인사말"),
        ("挨拶。", "挨拶"),
        ("What is AI?", "What is AI?"),
        ("C# and F#", "C# and F#"),
        ("\x00A\x07 greeting", "A greeting"),
        ("", None),
        ('""', None),
        ("\n \u200b \n", None),
        ("***", None),
    ],
)
def test_of_an_ai_s_reply_the_title_alone_is_kept(reply, title):
    assert title_from_model(reply) == title


@pytest.mark.parametrize("character", ["가", FAMILY, FLAG, DECOMPOSED_HAN, "a "])
def test_an_ai_s_title_is_cut_between_characters(character):
    title = title_from_model(character * 100)
    assert 70 <= len(title) <= MODEL_TITLE_CHARACTERS
    assert (character * 100).startswith(title)
    assert len(title.replace(character, "").strip()) in (0, len(character.strip()) if character == "a " else 0)


def test_of_a_long_message_the_beginning_is_sent():
    _, asked = title_request("가" * 100_000)
    assert len(asked.content) == 2000
