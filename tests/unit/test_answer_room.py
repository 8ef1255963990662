"""How much of an answer passes before its store would refuse it."""

import pymysql
import pytest

from chat.domain.answer_room import AnswerRoom, stored_bytes

HARD = ["", "plain", "한글", "👩‍👩‍👧 emoji", "it's", 'a "quote"', "back\\slash", "lines\r\nand\0zeros\x1a", "%s %(x)s"]


@pytest.mark.parametrize("text", HARD)
def test_bytes_are_counted_as_the_driver_writes_them(text):
    assert stored_bytes(text) == len(pymysql.converters.escape_string(text).encode())


def said(max_bytes: int | None, *texts: str) -> tuple[str, AnswerRoom]:
    passed = [""]
    room = AnswerRoom(max_bytes, lambda: (passed[0], ""))
    for text in texts:
        passed[0] += room.fit(text)
    return passed[0], room


@pytest.mark.parametrize("word", ["a", "'", "가", "👍", "mixed 가'👍\n"])
@pytest.mark.parametrize("max_bytes", [0, 1, 10, 1000, 1001])
def test_everything_passes_that_fits_and_not_a_character_more(word, max_bytes):
    text = word * 1100
    passed, room = said(max_bytes, *text)
    assert text.startswith(passed)
    assert room.is_full
    assert stored_bytes(passed) <= max_bytes < stored_bytes(text[: len(passed) + 1])


def test_one_piece_that_is_too_long_is_cut_at_a_character():
    assert said(10, "가나다라")[0] == "가나다"


def test_what_just_fits_passes_whole():
    passed, room = said(12, "가나", "다라")
    assert (passed, room.is_full) == ("가나다라", False)


def test_without_a_limit_everything_passes():
    passed, room = said(None, *["text"] * 1000)
    assert (passed, room.is_full) == ("text" * 1000, False)


def test_bytes_are_counted_rarely():
    """Whoever counts them at every piece reads the whole answer each time."""
    counted = []

    def so_far() -> tuple[str, str]:
        counted.append(1)
        return "a" * passed, ""

    passed = 0
    room = AnswerRoom(100_000, so_far)
    while not room.is_full:
        passed += len(room.fit("aaaa"))
    assert passed == 100_000
    assert len(counted) < 60
