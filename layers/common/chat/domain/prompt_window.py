"""Which earlier turns the AI is sent, and what a text is worth in tokens. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from chat.domain.model import ChatMessage, QuestionAnswer

BYTES_PER_TOKEN = 3
"""A cautious average over UTF-8: English has about 4 bytes a token, Hangul about 3. Tokenizers differ by model, and
none is worth its import here."""
TOKENS_PER_TURN = 4
"""What role and separators cost."""


def estimate_tokens(text: str) -> int:
    """Return about how many tokens `text` is, rather too many than too few."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def estimate_input(turns: Sequence[ChatMessage]) -> int:
    """Return about how many tokens the AI will count for `turns`."""
    return sum(TOKENS_PER_TURN + estimate_tokens(turn.content) for turn in turns)


def fit_history(
    system_prompt: str | None, history: Sequence[QuestionAnswer], content: str, budget_tokens: int
) -> list[ChatMessage]:
    """Return the system prompt, as many of the latest exchanges as fit the budget, and the new message.

    The history is given oldest first. System prompt and new message are sent even if they alone exceed the budget.
    """
    first = [ChatMessage("system", system_prompt)] if system_prompt else []
    last = ChatMessage("user", content)
    left = budget_tokens - estimate_input([*first, last])
    chosen: list[ChatMessage] = []
    for exchange in reversed(history):
        turns = [ChatMessage("user", exchange.question)]
        if exchange.answer:
            turns.append(ChatMessage("assistant", exchange.answer))
        left -= estimate_input(turns)
        if left < 0:
            break
        chosen[:0] = turns
    return [*first, *_joined([*chosen, last])]


def _joined(turns: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Join what the user said twice in a row, because nothing was answered: some services refuse it otherwise."""
    joined: list[ChatMessage] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role:
            joined[-1] = ChatMessage(turn.role, f"{joined[-1].content}\n\n{turn.content}")
        else:
            joined.append(turn)
    return joined
