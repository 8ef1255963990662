"""What schemathesis must know beyond the document: which inputs OpenAPI cannot rule out. Loaded by its command."""

import schemathesis


@schemathesis.hook
def filter_case(context, case):
    """Leave out what depends on two parameters at once, for which OpenAPI has no words.

    Of `messageId` and `userMessageId` only one may be sent; where a header names the last event no query is looked at.
    """
    if isinstance(case.body, dict) and case.body.get("model") is not None:
        return False  # one of the models that this service has
    query = set(case.query or {})
    if {"messageId", "userMessageId"} <= query:
        return False
    return not (query and (case.headers or {}).get("Last-Event-ID"))
