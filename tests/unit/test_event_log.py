"""How events lie in a Redis stream, and how they come out of it."""

from hypothesis import given
from hypothesis import strategies as st

from chat.adapters.redis import event_log
from chat.domain.events import Event

EVENTS = [Event(1, "start", "{}"), *(Event(n, "", f'{{"delta":"{n}"}}') for n in range(2, 9)), Event(0, "done", "{}")]


def entry(first: int, last: int) -> list:
    command = event_log.append("c", "m", first, EVENTS[first - 1 : last], is_new=True)
    fields = [str(value).encode() for value in command[3:]]
    return [str(command[2]).encode(), fields]


def read(entries: list, after: int):
    reached = [item for item in entries if int(item[0].split(b"-")[0]) > after]  # what XRANGE (after-0 + returns
    return event_log.page(reached, 1, after)


def test_an_entry_is_numbered_by_its_last_event():
    command = event_log.append("c", "m", 3, EVENTS[2:5], is_new=True)
    assert command[:3] == ("XADD", "chat:{c}:events:m", "5-0")


def test_a_log_that_must_exist_is_not_created():
    assert "NOMKSTREAM" in event_log.append("c", "m", 3, EVENTS[2:5], is_new=False)
    assert "NOMKSTREAM" not in event_log.append("c", "m", 1, EVENTS[:5], is_new=True)


def test_without_a_log_there_is_no_page():
    assert event_log.page([], 0, 0) is None


def test_an_empty_page_means_nothing_new():
    page = event_log.page([], 1, 5)
    assert page is not None
    assert (list(page.events), page.ended) == ([], False)


def test_a_hole_is_no_page():
    assert read([entry(1, 2), entry(5, 6)], 0) is None
    assert read([entry(4, 6)], 2) is None


@given(st.lists(st.integers(1, 9), min_size=1), st.integers(0, 9))
def test_whatever_the_batches_and_overlaps_a_reader_gets_each_event_once_in_order(ends, after):
    entries, last = [], 0
    for end in ends:
        if end > last:  # the server refuses ids that do not grow
            entries.append(entry(max(1, last + 1 - end % 3), end))  # some batches repeat what was logged
            last = end
    page = read(entries, after)
    assert page is not None
    assert list(page.events) == EVENTS[after:last]
    assert page.ended == (after < last == len(EVENTS))
