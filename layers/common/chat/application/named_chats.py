"""Chats under names that a client chose itself, as front ends do that make an id before there is a chat."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from chat.application.create_chat import CreateChat
from chat.application.ports import Chats
from chat.domain.errors import ChatNotFound
from chat.domain.model import canonical_uuid


@dataclass(frozen=True, slots=True)
class NamedChats:
    """Each user has names of their own: the same name of two users is two chats, and tells neither of the other."""

    chats: Chats
    create: CreateChat

    async def find(self, user_id: str, name: str) -> str | None:
        """Return the id of the user's chat with this id or under this name; None when there is none.

        Raises:
            StorageUnavailable: MySQL is away.
        """
        chat_id = canonical_uuid(name)
        if chat_id is not None:
            try:
                await self.chats.require(chat_id, user_id)
            except ChatNotFound:
                pass
            else:
                return chat_id
        return await self.chats.find_by_key(user_id, _key(name))

    async def find_or_create(self, user_id: str, name: str) -> str:
        """Return the id of that chat, made now if there is none; of any number of calls at once one makes it.

        Raises:
            StorageUnavailable: MySQL is away.
        """
        found = await self.find(user_id, name)
        if found is not None:
            return found
        return (await self.create(user_id, None, None, _key(name))).id


def _key(name: str) -> str:
    """Return the idempotency key that stands for a name, which may be longer than a key or hold any character."""
    return "name:" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
