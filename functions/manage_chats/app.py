"""manage_chats on AWS Lambda: `handler` takes Function URL events and answers in one piece, through Mangum."""

import os

from chat.wiring import function, lambda_handler, manage_chats

app = function(manage_chats, os.environ)
handler = lambda_handler(app)
