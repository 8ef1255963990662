"""stream_chat on AWS Lambda: `app` is ASGI and streams, through lambda_stream."""

import os

from chat.settings import Settings
from chat.wiring import stream_chat

app = stream_chat(Settings.read(os.environ, with_ai=True))
