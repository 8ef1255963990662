"""A plain function that answers with the event it was given."""

import json


def handler(event, context):
    seen = {"event": event, "requestId": context.aws_request_id, "name": context.function_name}
    seen["remaining"] = context.get_remaining_time_in_millis()
    return {"statusCode": 201, "headers": {"content-type": "application/json"}, "body": json.dumps(seen)}
