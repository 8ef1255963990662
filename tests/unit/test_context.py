"""What the AI is sent."""

from hypothesis import given
from hypothesis import strategies as st

from chat.domain.model import ChatMessage, QuestionAnswer
from chat.domain.prompt_window import estimate_input, estimate_tokens, fit_history


def contents(turns: list[ChatMessage]) -> list[str]:
    return [turn.content for turn in turns]


def test_system_prompt_first_history_in_order_new_message_last():
    turns = fit_history("be brief", [QuestionAnswer("q1", "a1"), QuestionAnswer("q2", "a2")], "q3", 1000)
    assert turns == [
        ChatMessage("system", "be brief"),
        ChatMessage("user", "q1"),
        ChatMessage("assistant", "a1"),
        ChatMessage("user", "q2"),
        ChatMessage("assistant", "a2"),
        ChatMessage("user", "q3"),
    ]


def test_the_latest_exchanges_are_kept_and_whole():
    history = [QuestionAnswer(f"question {n} " * 10, f"answer {n} " * 10) for n in range(10)]
    budget = estimate_input(fit_history(None, history[-3:], "new", 10**6))
    assert fit_history(None, history, "new", budget) == fit_history(None, history[-3:], "new", 10**6)
    assert fit_history(None, history, "new", budget - 1) == fit_history(None, history[-2:], "new", 10**6)


def test_an_exchange_that_does_not_fit_ends_the_history_even_if_an_older_one_would_fit():
    turns = fit_history(None, [QuestionAnswer("small", "small"), QuestionAnswer("big" * 1000, "big")], "new", 100)
    assert contents(turns) == ["new"]


def test_system_prompt_and_message_go_out_whatever_the_budget():
    assert contents(fit_history("system" * 100, [QuestionAnswer("q", "a")], "message" * 100, 1)) == [
        "system" * 100,
        "message" * 100,
    ]


def test_messages_that_nobody_answered_are_one_turn_with_the_next():
    history = [QuestionAnswer("q1", "a1"), QuestionAnswer("q2", ""), QuestionAnswer("q3", "")]
    turns = fit_history(None, history, "q4", 1000)
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
    turns = fit_history(None, history, content, budget)
    pairs = turns[:-1]
    whole = [turn for e in history for turn in (ChatMessage("user", e.question), ChatMessage("assistant", e.answer))]
    assert pairs == whole[len(whole) - len(pairs) :]
    assert not pairs or estimate_input(turns) <= budget
