"""Follows one branch of a chat backwards through messages that are read newest first."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from chat.domain.model import ROOT

Loose = Row[*tuple[Any, ...]]


class PathFinder:
    """Says which messages are on the way from a message to the beginning of its chat.

    Begins with that message's id, with LEAF for the end of the active branch, with ANSWER for whichever answer comes
    next, or with ANY to take every message. What is stored without a parent, as before there were branches, follows
    whichever answer comes next.
    """

    LEAF = "leaf"
    ANY = "any"
    ANSWER = "answer"

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted
        self.is_whole = False
        """The beginning of the chat has been reached."""

    @property
    def wanted_id(self) -> str | None:
        """The id of the message that is looked for next; None where it is not known."""
        return None if self._wanted in (self.LEAF, self.ANSWER, self.ANY) else self._wanted

    def takes(self, row: Loose) -> bool:
        """Tell whether the message is the next one on the way."""
        if self._wanted == self.ANY:
            return True
        if self._wanted in (self.LEAF, self.ANSWER):
            return row.reply_to is not None and not row.is_aside
        return bool(row.id == self._wanted)

    def follow(self, row: Loose) -> None:
        """Go on from a message that was taken."""
        if self._wanted == self.ANY:
            return
        parent = row.reply_to if row.reply_to is not None else row.parent_id
        self._wanted = self.ANSWER if parent is None else parent
        self.is_whole = parent == ROOT
