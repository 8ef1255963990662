"""What is delivered on its own: a function with the layer that it pins."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unit:
    """One function; all of its resources in the template carry `prefix`, and nothing else does."""

    name: str
    prefix: str
    folder: str
    further_functions: tuple[str, ...] = ()
    """Logical ids of others that run the same code."""

    @property
    def code(self) -> tuple[tuple[str, str], ...]:
        """Where its code stands in the template: logical id and property."""
        function = [(f"{self.prefix}Function", "CodeUri"), (f"{self.prefix}Layer", "ContentUri")]
        return (*function, *((more, "CodeUri") for more in self.further_functions))


UNITS = (
    Unit("migrations", "Migration", "migrations"),
    Unit("create_chat", "CreateChat", "functions/create_chat"),
    Unit("cancel_stream", "CancelStream", "functions/cancel_stream"),
    Unit("manage_chats", "ManageChats", "functions/manage_chats", ("ManageChatsRetentionFunction",)),
    Unit("stream_chat", "StreamChat", "functions/stream_chat", ("StreamChatInstancesFunction",)),
)
"""In the order of delivery: what is added to the schema is there before the code that uses it, and the function in
which a defect hurts most comes last."""


def unit_named(name: str) -> Unit:
    """Return the unit with this name.

    Raises:
        LookupError: there is none.
    """
    for unit in UNITS:
        if unit.name == name:
            return unit
    raise LookupError(f"no unit is called {name!r}: {', '.join(unit.name for unit in UNITS)}")
