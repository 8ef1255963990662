"""The function that brings the database to its schema, from inside the network: for CloudFormation, or invoked by hand.

As a custom resource it must answer in any case, or CloudFormation waits for as long as `ServiceTimeout` says. It is
told of a change whenever its own code changes, and every other function waits for it. When it is told of the end of the
stack it touches nothing and says so at once: for that, nothing but the standard library is imported here.
"""

from __future__ import annotations

import json
import logging
import os
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

logger = logging.getLogger(__name__)

SEND_ATTEMPTS = 3
SEND_SECONDS = 2.5
"""Bounds one attempt to deliver the outcome; all of them and the pauses between take less than 10 s."""
PAUSE_SECONDS = 0.5

Upgrade = Callable[[str], None]
Send = Callable[[str, bytes], None]


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Bring the database in `MYSQL_URL` to the schema of this code; make the user in `FUNCTIONS_MYSQL_URL`, if any.

    Raises:
        RuntimeError: invoked by hand, and it could not; the message is safe to show.
    """
    if "ResponseURL" in event:
        return answer_cloudformation(event, _upgrade, _put)
    _upgrade(event.get("RequestType", "Invoke"))
    return {"status": "ok", "schema": _head()}


def answer_cloudformation(event: Mapping[str, Any], upgrade: Upgrade, send: Send) -> dict[str, Any]:
    """Do what CloudFormation asks and send the outcome to the address it gave.

    Deleting the resource leaves the database as it is.
    Source: AWS CloudFormation User Guide, "Custom resource response objects".
    """
    reason = "" if event["RequestType"] == "Delete" else _attempt(upgrade, str(event["RequestType"]))
    response = {
        "Status": "FAILED" if reason else "SUCCESS",
        "Reason": reason or "the schema is that of this code",
        "PhysicalResourceId": event.get("PhysicalResourceId") or "schema",
        **{name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")},
    }
    send(event["ResponseURL"], json.dumps(response).encode())
    return {"status": response["Status"], "reason": response["Reason"]}


def _attempt(upgrade: Upgrade, request: str) -> str:
    """Return why it failed, or nothing."""
    try:
        upgrade(request)
    except Exception as error:  # whatever it is, CloudFormation must hear of it, and of its text only if it is ours
        logger.exception("migration failed")
        safe = type(error).__module__.startswith(("migrations", "chat"))
        return (str(error) if safe else f"{type(error).__name__}; the function's log says more")[:1000]
    return ""


def _upgrade(request: str) -> None:
    from chat.adapters.aws.secrets import Secrets
    from migrations.runner import NewerSchema, upgrade

    secrets = Secrets(os.environ)
    try:
        upgrade(secrets.read("MYSQL_URL"), functions_url=secrets.read("FUNCTIONS_MYSQL_URL") or None)
    except NewerSchema:
        # A roll-back: the newer code's steps only added, so this code runs beside them. On a first deployment, or by
        # hand, it is a mistake.
        if request != "Update":
            raise
        logger.warning("the schema is newer than this code and stays as it is")


def _head() -> str:
    from migrations.runner import head

    return head()


def _put(url: str, body: bytes, seconds: float = SEND_SECONDS) -> None:
    """Send the outcome, several times if need be; the address is signed and takes no content type.

    Raises:
        OSError: every attempt failed; Lambda then invokes the function again, a minute later.
    """
    request = urllib.request.Request(url, data=body, method="PUT", headers={"Content-Type": ""})  # noqa: S310
    for attempt in range(1, SEND_ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(request, timeout=seconds):  # noqa: S310  # an address of S3, from CloudFormation
                return
        except OSError:
            if attempt == SEND_ATTEMPTS:
                raise
            logger.warning("the outcome could not be delivered, attempt %d", attempt)
        time.sleep(PAUSE_SECONDS)
