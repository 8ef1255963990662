"""create_chat on AWS Lambda: `handler` takes Function URL events and answers in one piece, through Mangum."""

import os

from chat.settings import Settings
from chat.wiring import buffered, create_chat, write_logs

settings = Settings.read(os.environ)
write_logs(settings)
app = create_chat(settings)
handler = buffered(app)
