"""Delivers one unit (or the stack) through a change set that is executed only if it is clean.

    python -m deploy.deliver create_chat packaged.json --stack aiva-chat --bucket BUCKET --keep before.json

takes the code of create_chat from the packaged template and everything else from what is deployed. The same command
with what it kept takes the code back. `stack` takes everything but code.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.change_set import Change, stains
from deploy.template import Template, dump, load, parameters, with_code, without_code
from deploy.units import unit_named

_CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
_NOTHING = ("didn't contain changes", "No updates are to be performed")


class NotDelivered(RuntimeError):
    """Nothing was changed, or CloudFormation took it back; the message says why."""


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack, and the bucket that templates go through: CloudFormation takes at most 51,200 bytes directly."""

    name: str
    bucket: str
    cloudformation: Any
    s3: Any

    def template(self) -> Template:
        """Return what is deployed, as it was before its transforms."""
        body = self.cloudformation.get_template(StackName=self.name, TemplateStage="Original")["TemplateBody"]
        return load(body) if isinstance(body, str) else json.loads(json.dumps(body))

    def parameters(self) -> dict[str, str]:
        """Return the values in force; secret ones masked, which is enough to keep them."""
        (stack,) = self.cloudformation.describe_stacks(StackName=self.name)["Stacks"]
        return {entry["ParameterKey"]: entry["ParameterValue"] for entry in stack.get("Parameters", [])}

    def propose(self, template: Template, values: list[dict[str, str | bool]]) -> str | None:
        """Make a change set and return its ARN; None when there would be nothing to change.

        Raises:
            NotDelivered: CloudFormation refuses it.
        """
        key = f"{self.name}/deliveries/{time.time_ns()}.json"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=dump(template).encode())
        made = self.cloudformation.create_change_set(
            StackName=self.name,
            ChangeSetName=f"delivery-{time.time_ns()}",
            ChangeSetType="UPDATE",
            TemplateURL=f"https://{self.bucket}.s3.amazonaws.com/{key}",
            Parameters=values,
            Capabilities=_CAPABILITIES,
        )["Id"]
        return str(made) if self._is_made(made) else None

    def _is_made(self, change_set: str) -> bool:
        while True:
            found = self.cloudformation.describe_change_set(ChangeSetName=change_set, StackName=self.name)
            if found["Status"] == "CREATE_COMPLETE":
                return True
            if found["Status"] == "FAILED":
                break
            time.sleep(2)
        self.discard(change_set)
        reason = found.get("StatusReason", "no reason given")
        if any(words in reason for words in _NOTHING):
            return False
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
            botocore.exceptions.WaiterError: it was rolled back.
        """
        self.cloudformation.execute_change_set(ChangeSetName=change_set, StackName=self.name)
        self.cloudformation.get_waiter("stack_update_complete").wait(
            StackName=self.name, WaiterConfig={"Delay": 10, "MaxAttempts": 360}
        )


def deliver(
    stack: Stack, name: str, packaged: Template, overrides: dict[str, str], say: Callable[[str], None] = print
) -> Template:
    """Deliver one unit, or `stack`, and return what was deployed before.

    Raises:
        NotDelivered: the change set is refused, or is not clean.
    """
    unit = None if name == "stack" else unit_named(name)
    before = stack.template()
    wanted = with_code(before, packaged, unit) if unit else without_code(packaged, before)
    change_set = stack.propose(wanted, parameters(wanted, stack.parameters(), overrides))
    if change_set is None:
        say(f"{name}: nothing to change")
        return before
    changes = list(stack.changes(change_set))
    for change in changes:
        resource = change.get("ResourceChange", {})
        say(f"{name}: {resource.get('Action')} {resource.get('LogicalResourceId')} ({resource.get('ResourceType')})")
    if found := stains(changes, unit):
        stack.discard(change_set)
        raise NotDelivered("the change set is not clean:\n  " + "\n  ".join(found))
    stack.execute(change_set)
    say(f"{name}: delivered")
    return before


def main() -> None:
    """Deliver as the command line says, with the region and credentials of the environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("unit", help="migrations, create_chat, cancel_stream, stream_chat or stack")
    parser.add_argument("packaged", type=Path, help="the template as `sam package --use-json` wrote it")
    parser.add_argument("--stack", required=True)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--keep", type=Path, help="where to write what was deployed before")
    parser.add_argument("--parameter", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    import boto3  # type: ignore[import-untyped]
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

    overrides = dict(entry.split("=", 1) for entry in arguments.parameter)
    packaged = load(arguments.packaged.read_text())
    try:
        stack = Stack(arguments.stack, arguments.bucket, boto3.client("cloudformation"), boto3.client("s3"))
        if arguments.keep:
            arguments.keep.write_text(dump(stack.template()))
        deliver(stack, arguments.unit, packaged, overrides)
    except (NotDelivered, BotoCoreError, ClientError) as error:  # no credentials or stack, a roll-back
        sys.exit(f"{arguments.unit}: {error}")


if __name__ == "__main__":
    main()
