"""Delivers one unit (or the stack) through a change set that is executed only if it does nothing else.

    python -m deploy.deliver create_chat packaged.json --stack aiva-chat --bucket BUCKET --keep before.json
    python -m deploy.deliver create_chat before.json --stack aiva-chat --bucket BUCKET --at-once

The first takes the code of create_chat from the packaged template and everything else from what is deployed. The second
takes the code back, without a gradual shift. `stack` takes everything but code, and puts the stack policy into force.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from deploy.change_set import violations
from deploy.stack import NotDelivered, Stack
from deploy.template import Template, at_once, dump, load, parameters, with_code, without_code
from deploy.units import Unit, unit_named

Say = Callable[[str], None]


def deliver(
    stack: Stack, name: str, packaged: Template, overrides: dict[str, str], say: Say = print, immediate: bool = False
) -> Template:
    """Deliver one unit, or `stack`, and return what was deployed before. `immediate`: all traffic moves at once.

    Raises:
        NotDelivered: the change set is refused, or would do something else, or was rolled back.
    """
    unit = None if name == "stack" else unit_named(name)
    stack.wait_until_idle()
    before = stack.template()
    wanted = _wanted(before, packaged, unit, immediate)
    change_set = stack.propose(wanted, parameters(wanted, stack.parameters(), overrides))
    if change_set is None:
        say(f"{name}: nothing to change")
        return before
    changes = list(stack.changes(change_set))
    for change in changes:
        resource = change.get("ResourceChange", {})
        say(f"{name}: {resource.get('Action')} {resource.get('LogicalResourceId')} ({resource.get('ResourceType')})")
    if found := violations(changes, unit, stack.policy()):
        stack.discard(change_set)
        raise NotDelivered("the change set would do what it must not:\n  " + "\n  ".join(found))
    stack.execute(change_set)
    if unit is None:
        stack.protect()
    say(f"{name}: delivered")
    return before


def _wanted(before: Template, packaged: Template, unit: Unit | None, immediate: bool) -> Template:
    if unit is None:
        return without_code(packaged, before)
    wanted = with_code(before, packaged, unit)
    return at_once(wanted, unit) if immediate else wanted


def main() -> None:
    """Deliver as the command line says, with the region and credentials of the environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("unit", help="migrations, create_chat, cancel_stream, stream_chat or stack")
    parser.add_argument("packaged", type=Path, help="the template as `sam package --use-json` wrote it")
    parser.add_argument("--stack", required=True)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--keep", type=Path, help="where to write what was deployed before")
    parser.add_argument("--at-once", action="store_true", help="move all traffic at once: for taking code back")
    parser.add_argument("--parameter", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    overrides = dict(entry.split("=", 1) for entry in arguments.parameter)
    packaged = load(arguments.packaged.read_text())
    try:
        stack = Stack(arguments.stack, arguments.bucket, boto3.client("cloudformation"), boto3.client("s3"))
        if arguments.keep:
            arguments.keep.write_text(dump(stack.template()))
        deliver(stack, arguments.unit, packaged, overrides, immediate=arguments.at_once)
    except (NotDelivered, BotoCoreError, ClientError, LookupError) as error:  # no credentials or stack, a roll-back
        sys.exit(f"{arguments.unit}: {error}")


if __name__ == "__main__":
    main()
