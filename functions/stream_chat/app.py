"""stream_chat on AWS Lambda: `app` is ASGI and streams, through lambda_stream."""

import os

from chat.wiring import configure, stream_chat, write_logs

settings, secrets = configure(os.environ, with_ai=True)
write_logs(settings)
app = stream_chat(settings, secrets)
