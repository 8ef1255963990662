"""create_chat on AWS Lambda: `handler` takes Function URL events and answers in one piece, through Mangum."""

import os

from chat.wiring import create_chat, function, lambda_handler

app = function(create_chat, os.environ)
handler = lambda_handler(app)
