"""stream_chat on AWS Lambda: `app` is ASGI and streams, through lambda_stream."""

import os

from chat.wiring import function, stream_chat

app = function(stream_chat, os.environ, with_ai=True)
