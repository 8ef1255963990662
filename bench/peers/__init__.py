"""The programs that are measured beside ours: each is run in a process of its own."""
