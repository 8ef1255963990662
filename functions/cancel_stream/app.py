"""cancel_stream on AWS Lambda: `handler` takes Function URL events and answers in one piece, through Mangum."""

import os

from chat.wiring import cancel_stream, configure, lambda_handler, write_logs

settings, secrets = configure(os.environ)
write_logs(settings)
app = cancel_stream(settings, secrets)
handler = lambda_handler(app)
