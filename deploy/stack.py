"""One deployed stack as CloudFormation knows it: what is in force, change sets, what went wrong. Every wait ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from deploy import stack_policy
from deploy.change_set import Change
from deploy.template import Template, dump, load

POLL_SECONDS = 2.0
MADE_SECONDS = 600
"""How long a change set may take to be made."""
IDLE_SECONDS = 1200
"""How long another update of the stack is waited for."""
EXECUTE_SECONDS = 3600
"""How long an update may take, gradual shift and roll-back included."""

_CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
_NOTHING = ("didn't contain changes", "No updates are to be performed")
_STUCK = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "UPDATE_ROLLBACK_FAILED", "DELETE_FAILED")


class NotDelivered(RuntimeError):
    """Nothing was changed, or CloudFormation took it back; the message says why."""


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack, and the bucket that templates go through: CloudFormation takes at most 51,200 bytes directly."""

    name: str
    bucket: str
    cloudformation: Any
    s3: Any
    sleep: Callable[[float], None] = time.sleep

    def template(self) -> Template:
        """Return what is deployed, as it was before its transforms."""
        body = self.cloudformation.get_template(StackName=self.name, TemplateStage="Original")["TemplateBody"]
        return load(body) if isinstance(body, str) else json.loads(json.dumps(body))

    def parameters(self) -> dict[str, str]:
        """Return the values in force; secret ones masked, which is enough to keep them."""
        return {entry["ParameterKey"]: entry["ParameterValue"] for entry in self._described().get("Parameters", [])}

    def policy(self) -> str:
        """Return the stack policy in force; ours where there is none yet."""
        return stack_policy.in_force(self.cloudformation, self.name)

    def protect(self) -> None:
        """Put our stack policy into force."""
        stack_policy.put(self.cloudformation, self.name)

    def wait_until_idle(self) -> None:
        """Return when no other update is under way.

        Raises:
            NotDelivered: one is for too long, or the stack is stuck.
        """
        status = ""

        def is_idle() -> bool:
            nonlocal status
            status = self._described()["StackStatus"]
            return not status.endswith("_IN_PROGRESS")

        if not self._within(IDLE_SECONDS, is_idle):
            raise NotDelivered(
                f"the stack has been {status} for {IDLE_SECONDS // 60} minutes: try again when it is done"
            )
        if status in _STUCK:
            raise NotDelivered(
                f"the stack is {status}: aws cloudformation continue-update-rollback, or look at its events"
            )

    def propose(self, template: Template, values: list[dict[str, str | bool]]) -> str | None:
        """Make a change set and return its ARN; None when there would be nothing to change.

        Raises:
            NotDelivered: CloudFormation refuses it, or takes too long.
        """
        key = f"{self.name}/deliveries/{time.time_ns()}.json"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=dump(template).encode())
        made = self.cloudformation.create_change_set(
            StackName=self.name,
            ChangeSetName=f"delivery-{time.time_ns()}",
            ChangeSetType="UPDATE",
            TemplateURL=f"{self.s3.meta.endpoint_url}/{self.bucket}/{key}",
            Parameters=values,
            Capabilities=_CAPABILITIES,
        )["Id"]
        found: dict[str, Any] = {}

        def is_settled() -> bool:
            found.update(self.cloudformation.describe_change_set(ChangeSetName=made, StackName=self.name))
            return found["Status"] in ("CREATE_COMPLETE", "FAILED")

        if self._within(MADE_SECONDS, is_settled) and found["Status"] == "CREATE_COMPLETE":
            return str(made)
        self.discard(made)
        reason = found.get("StatusReason", f"it was not made within {MADE_SECONDS // 60} minutes")
        if any(words in reason for words in _NOTHING):
            return None
        raise NotDelivered(f"CloudFormation refuses the change set: {reason}")

    def changes(self, change_set: str) -> Iterator[Change]:
        """Yield all that a change set would change."""
        more: dict[str, str] = {}
        while True:
            page = self.cloudformation.describe_change_set(ChangeSetName=change_set, StackName=self.name, **more)
            yield from page["Changes"]
            if not page.get("NextToken"):
                return
            more = {"NextToken": page["NextToken"]}

    def discard(self, change_set: str) -> None:
        """Throw a change set away."""
        self.cloudformation.delete_change_set(ChangeSetName=change_set, StackName=self.name)

    def execute(self, change_set: str) -> None:
        """Carry a change set out and wait for its end, an alarm's roll-back included.

        Raises:
            NotDelivered: it was rolled back, or takes too long; the message lists what failed, the cause first.
        """
        begun = datetime.now(UTC)
        self.cloudformation.execute_change_set(ChangeSetName=change_set, StackName=self.name)
        status = ""

        def is_over() -> bool:
            nonlocal status
            status = self._described()["StackStatus"]
            return not status.endswith("_IN_PROGRESS")

        if not self._within(EXECUTE_SECONDS, is_over):
            raise NotDelivered(f"after {EXECUTE_SECONDS // 60} minutes it is still {status}\n" + self._failures(begun))
        if status != "UPDATE_COMPLETE":
            raise NotDelivered(f"it ended as {status}\n" + self._failures(begun))

    def _failures(self, since: datetime) -> str:
        """Return what failed, one line each, in the order in which it did."""
        lines: list[str] = []
        more: dict[str, str] = {}
        while True:
            page = self.cloudformation.describe_stack_events(StackName=self.name, **more)
            for event in page["StackEvents"]:
                if event["Timestamp"] < since:
                    return "\n".join(reversed(lines))
                if event["ResourceStatus"].endswith("_FAILED"):
                    reason = event.get("ResourceStatusReason", "no reason given")
                    lines.append(f"  {event['LogicalResourceId']} {event['ResourceStatus']}: {reason}")
            if not page.get("NextToken"):
                return "\n".join(reversed(lines))
            more = {"NextToken": page["NextToken"]}

    def _described(self) -> dict[str, Any]:
        (found,) = self.cloudformation.describe_stacks(StackName=self.name)["Stacks"]
        return dict(found)

    def _within(self, seconds: float, holds: Callable[[], bool]) -> bool:
        """Ask until it holds, and tell whether it did in time."""
        for _ in range(int(seconds / POLL_SECONDS)):
            if holds():
                return True
            self.sleep(POLL_SECONDS)
        return False
