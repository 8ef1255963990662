"""create_chat on AWS Lambda: `handler` takes Function URL events and answers in one piece, through Mangum."""

import os

from chat.wiring import configure, create_chat, lambda_handler, write_logs

settings, secrets = configure(os.environ)
write_logs(settings)
app = create_chat(settings, secrets)
handler = lambda_handler(app)
