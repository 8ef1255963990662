"""create_chat on AWS Lambda: `handler` takes Function URL events and answers in one piece, through Mangum."""

import os

from chat.settings import Settings
from chat.wiring import buffered, create_chat

app = create_chat(Settings.read(os.environ))
handler = buffered(app)
