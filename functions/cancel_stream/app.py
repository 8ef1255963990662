"""cancel_stream on AWS Lambda: `handler` takes Function URL events and answers in one piece, through Mangum."""

import os

from chat.settings import Settings
from chat.wiring import buffered, cancel_stream

app = cancel_stream(Settings.read(os.environ))
handler = buffered(app)
