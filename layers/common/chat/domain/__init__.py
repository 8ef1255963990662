"""The domain: chats, answers and their rules as plain values. No I/O, no library, no HTTP."""
