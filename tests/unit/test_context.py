"""What the AI is sent."""

from hypothesis import given
from hypothesis import strategies as st

from chat.domain.model import ChatMessage, QuestionAnswer
from chat.domain.prompt_window import STEP, estimate_input, estimate_tokens, fit_history


def fitted(*given) -> list[ChatMessage]:
    return fit_history(*given).messages


def contents(turns: list[ChatMessage]) -> list[str]:
    return [turn.content for turn in turns]


def test_system_prompt_first_history_in_order_new_message_last():
    turns = fitted("be brief", [QuestionAnswer("q1", "a1"), QuestionAnswer("q2", "a2")], "q3", 1000)
    assert turns == [
        ChatMessage("system", "be brief"),
        ChatMessage("user", "q1"),
        ChatMessage("assistant", "a1"),
        ChatMessage("user", "q2"),
        ChatMessage("assistant", "a2"),
        ChatMessage("user", "q3"),
    ]


def test_what_exceeds_the_budget_is_dropped_in_one_step_to_three_quarters_of_it():
    history = [QuestionAnswer(f"question {n} " * 10, f"answer {n} " * 10) for n in range(20)]
    whole = estimate_input(fitted(None, history, "new", 10**6))
    assert fitted(None, history, "new", whole) == fitted(None, history, "new", 10**6)
    left = fitted(None, history, "new", whole - 1)
    assert left[-3:] == fitted(None, history, "new", 10**6)[-3:]
    one = estimate_input(left[:2])
    assert STEP * whole - one < estimate_input(left) <= STEP * whole


def test_the_latest_exchange_is_sent_if_it_fits_the_budget_though_not_three_quarters_of_it():
    history = [QuestionAnswer("q1", "a1"), QuestionAnswer("q" * 240, "a")]
    assert contents(fitted(None, history, "new", 100)) == ["q" * 240, "a", "new"]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=60), st.integers(60, 400))
def test_as_a_conversation_grows_its_beginning_moves_only_when_the_budget_is_used_up(sizes, budget):
    history: list[QuestionAnswer] = []
    before, first_id = None, None
    for number, size in enumerate(sizes):
        window = fit_history("be brief", history, "q" * size, budget, first_id)
        if before is not None and window.messages[1] != before.messages[1]:
            grown = fit_history("be brief", history, "q" * size, 10**6, before.first_id)
            assert estimate_input(grown.messages) > budget
            assert estimate_input(window.messages) <= STEP * budget or len(window.messages) <= 4
        assert estimate_input(window.messages) <= budget or len(window.messages) == 2
        before, first_id = window, window.first_id
        history.append(QuestionAnswer("q" * size, "a" * size, f"id-{number}"))


def test_of_another_branch_the_beginning_is_sent():
    history = [QuestionAnswer("q1", "a1", "1"), QuestionAnswer("q2", "a2", "2"), QuestionAnswer("q3", "a3", "3")]
    assert contents(fitted(None, history, "q4", 1000, "2")) == ["q2", "a2", "q3", "a3", "q4"]
    window = fit_history(None, history, "q4", 1000, "elsewhere")
    assert contents(window.messages)[0] == "q1"
    assert window.first_id is None


def test_an_exchange_that_does_not_fit_ends_the_history_even_if_an_older_one_would_fit():
    turns = fitted(None, [QuestionAnswer("small", "small"), QuestionAnswer("big" * 1000, "big")], "new", 100)
    assert contents(turns) == ["new"]


def test_system_prompt_and_message_go_out_whatever_the_budget():
    assert contents(fitted("system" * 100, [QuestionAnswer("q", "a")], "message" * 100, 1)) == [
        "system" * 100,
        "message" * 100,
    ]


def test_messages_that_nobody_answered_are_one_turn_with_the_next():
    history = [QuestionAnswer("q1", "a1"), QuestionAnswer("q2", ""), QuestionAnswer("q3", "")]
    turns = fitted(None, history, "q4", 1000)
    assert turns == [
        ChatMessage("user", "q1"),
        ChatMessage("assistant", "a1"),
        ChatMessage("user", "q2\n\nq3\n\nq4"),
    ]


def test_hangul_counts_about_a_token_a_syllable():
    assert estimate_tokens("안녕하세요") == 5
    assert estimate_tokens("") == 0


@given(
    st.lists(
        st.builds(QuestionAnswer, st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200)), max_size=12
    ),
    st.text(max_size=100),
    st.integers(1, 2000),
)
def test_what_is_sent_is_a_suffix_of_the_history_within_the_budget(history, content, budget):
    turns = fitted(None, history, content, budget)
    pairs = turns[:-1]
    whole = [turn for e in history for turn in (ChatMessage("user", e.question), ChatMessage("assistant", e.answer))]
    assert pairs == whole[len(whole) - len(pairs) :]
    assert not pairs or estimate_input(turns) <= budget
