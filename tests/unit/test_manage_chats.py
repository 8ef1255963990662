"""Messages as they are told while MySQL can be read and not written."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from chat.application.manage_chats import ManageChats
from chat.application.ports import MessageView
from chat.domain.errors import StorageUnavailable
from chat.domain.listing import ChatDetails, StoredMessage
from chat.domain.model import AnswerIds, Status, StoredAnswer
from tests.kit.coordination import RecordingTelemetry

NOW = datetime(2030, 1, 2, tzinfo=UTC)
RUNNING = StoredAnswer(
    AnswerIds("chat", "answer", "question", "phone", "model"),
    *(Status.STREAMING, "par", "", (), None, None, None, "token", NOW, NOW, NOW, None),
)
LISTED = StoredMessage(
    *("answer", 2, "assistant", "question", "par", "", (), Status.STREAMING),
    *(None, None, False, "model", None, NOW, None, None),
)


class Library:
    """One chat with one answer."""

    async def read_chat(self, chat_id, user_id) -> ChatDetails:
        return ChatDetails(chat_id, None, None, None, NOW, NOW, ["answer"])

    async def running_answers(self, chat_id) -> list[StoredAnswer]:
        return [RUNNING]

    async def list_messages(self, chat_id, view, before, limit, max_bytes):
        return [LISTED], None


@pytest.mark.parametrize("is_stashed", [True, False])
async def test_an_end_that_only_redis_knows_is_told_and_an_outage_hides_nothing(is_stashed):
    async def recover(answer: StoredAnswer) -> StoredAnswer:
        if not is_stashed:
            raise StorageUnavailable
        return replace(answer, status=Status.COMPLETED, text="partial, and the rest", finished_at=NOW, is_saved=False)

    manage = ManageChats(Library(), SimpleNamespace(), SimpleNamespace(), recover, RecordingTelemetry(), lambda: NOW)
    [message], cursor = await manage.list_messages("chat", "user", MessageView(), None, 30)
    told = (message.status, message.content, message.finished_at)
    assert told == ((Status.COMPLETED, "partial, and the rest", NOW) if is_stashed else (Status.STREAMING, "par", None))
    assert cursor is None
