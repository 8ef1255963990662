"""What schemathesis must know beyond the document: which inputs OpenAPI cannot rule out. Loaded by its command."""

import schemathesis


@schemathesis.hook
def filter_case(context, case):
    """Leave out what depends on two parameters at once, for which OpenAPI has no words.

    Of `messageId` and `userMessageId` only one may be sent; where a header names the last event no query is looked at.
    """
    if isinstance(case.body, dict) and case.body.get("model") is not None:
        return False  # one of the models that this service has
    if isinstance(case.body, dict) and "messages" in case.body and not _ends_with_a_question(case.body["messages"]):
        return False  # OpenAPI has no words for the last of a list
    query = set(case.query or {})
    if {"messageId", "userMessageId"} <= query or {"leaf", "all"} <= query:
        return False
    if "cursor" in query:
        return False  # only what a list has given
    return not (query and (case.headers or {}).get("Last-Event-ID"))


def _ends_with_a_question(messages):
    newest = messages[-1] if isinstance(messages, list) and messages else None
    if not isinstance(newest, dict) or newest.get("role") != "user" or not isinstance(newest.get("id"), str):
        return False
    parts = newest.get("parts")
    return isinstance(parts, list) and any(isinstance(part, dict) and part.get("text") for part in parts)
