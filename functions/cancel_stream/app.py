"""cancel_stream on AWS Lambda: `handler` takes Function URL events and answers in one piece, through Mangum."""

import os

from chat.wiring import cancel_stream, function, lambda_handler

app = function(cancel_stream, os.environ)
handler = lambda_handler(app)
