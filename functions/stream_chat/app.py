"""stream_chat on AWS Lambda: `app` is ASGI and streams, through lambda_stream."""

import os

from chat.settings import Settings
from chat.wiring import stream_chat, write_logs

settings = Settings.read(os.environ, with_ai=True)
write_logs(settings)
app = stream_chat(settings)
