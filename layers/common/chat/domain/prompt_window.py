"""Which earlier turns the AI is sent, and what a text is worth in tokens. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chat.domain.model import ChatMessage, QuestionAnswer

BYTES_PER_TOKEN = 3
"""A cautious average over UTF-8: English has about 4 bytes a token, Hangul about 3. Tokenizers differ by model, and
none is worth its import here."""
TOKENS_PER_TURN = 4
"""What role and separators cost."""

STEP = 0.75
"""What is left of the budget when the beginning of a conversation is dropped: the next requests begin alike again, and
providers have such a beginning in their cache."""


class Window(NamedTuple):
    """What the AI is sent of a conversation."""

    messages: list[ChatMessage]
    first_id: str | None
    """The message with which it begins, None for the conversation's first one. It stays until the budget is used up."""


def estimate_tokens(text: str) -> int:
    """Return about how many tokens `text` is, rather too many than too few."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def estimate_input(turns: Sequence[ChatMessage]) -> int:
    """Return about how many tokens the AI will count for `turns`."""
    return sum(TOKENS_PER_TURN + estimate_tokens(turn.content) for turn in turns)


def fit_history(
    system_prompt: str | None,
    history: Sequence[QuestionAnswer],
    content: str,
    budget_tokens: int,
    first_id: str | None = None,
) -> Window:
    """Return the system prompt, the latest exchanges, and the new message.

    The history is given oldest first. It is sent from the message `first_id` on, or where that is not in it from its
    beginning. What exceeds the budget is dropped in one step, so that only `STEP` of the budget is used. System prompt
    and new message are sent even if they alone exceed it.
    """
    first = [ChatMessage("system", system_prompt)] if system_prompt else []
    last = ChatMessage("user", content)
    fixed = estimate_input([*first, last])
    known = [at for at, exchange in enumerate(history) if exchange.question_id == first_id] if first_id else []
    start, fitting = known[0] if known else 0, _fitting(history, budget_tokens - fixed)
    if fitting > start:
        known = []
        start = min(_fitting(history, int(STEP * budget_tokens) - fixed), max(fitting, len(history) - 1))
    chosen = [turn for exchange in history[start:] for turn in _turns(exchange)]
    is_cut = start < len(history) and (start > 0 or bool(known))
    return Window([*first, *_joined([*chosen, last])], history[start].question_id if is_cut else None)


def _fitting(history: Sequence[QuestionAnswer], budget_tokens: int) -> int:
    """Return from where on the exchanges fit the budget."""
    start, left = len(history), budget_tokens
    while start and (left := left - estimate_input(_turns(history[start - 1]))) >= 0:
        start -= 1
    return start


def _turns(exchange: QuestionAnswer) -> list[ChatMessage]:
    asked = ChatMessage("user", exchange.question)
    return [asked, ChatMessage("assistant", exchange.answer)] if exchange.answer else [asked]


def _joined(turns: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Join what the user said twice in a row, because nothing was answered: some services refuse it otherwise."""
    joined: list[ChatMessage] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role:
            joined[-1] = ChatMessage(turn.role, f"{joined[-1].content}\n\n{turn.content}")
        else:
            joined.append(turn)
    return joined
