"""cancel_stream on AWS Lambda: `handler` takes Function URL events and answers in one piece, through Mangum."""

import os

from chat.wiring import buffered, cancel_stream, configure, write_logs

settings, secrets = configure(os.environ)
write_logs(settings)
app = cancel_stream(settings, secrets)
handler = buffered(app)
