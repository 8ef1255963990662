"""MySQL (or SQLite): the truth about chats and messages."""
