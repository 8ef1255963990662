"""The retention on AWS Lambda: called on a schedule, deletes what is older than CHAT_RETENTION_DAYS."""

import asyncio
import os

from chat.wiring import configure, delete_expired, write_logs

settings, secrets = configure(os.environ)
write_logs(settings)


def handler(event: object, context: object) -> dict[str, int]:
    """Delete until nothing is left to delete, or most of the time is used up; return how many chats were deleted."""
    seconds_left = getattr(context, "get_remaining_time_in_millis", lambda: 60_000)() / 1000
    return {"deleted": asyncio.run(delete_expired(settings, secrets, seconds_left * 0.8))}


if __name__ == "__main__":  # `make run` calls it so, once an hour
    handler(None, None)
