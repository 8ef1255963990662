"""cancel_stream on AWS Lambda: `handler` takes Function URL events and answers in one piece, through Mangum."""

import os

from chat.settings import Settings
from chat.wiring import buffered, cancel_stream, write_logs

settings = Settings.read(os.environ)
write_logs(settings)
app = cancel_stream(settings)
handler = buffered(app)
