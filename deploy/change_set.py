"""Decides whether a change set does what it is for and nothing else. Pure: it reads what CloudFormation describes.

a unit       only resources that carry the unit's prefix; nothing is replaced but what is made anew for each version
the stack    anything that its stack policy allows; this says so before CloudFormation would in the middle of an update
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from deploy.stack_policy import POLICY, StackPolicy
from deploy.units import Unit, unit_named

Change = Mapping[str, Any]

VERSIONED = ("AWS::Lambda::Version", "AWS::Lambda::LayerVersion")
"""Made anew at each change; the old one is kept (`Retain`), whatever the change set calls it."""


def violations(changes: Iterable[Change], unit: Unit | None, policy: str = POLICY) -> list[str]:
    """Return what the change set must not contain, one sentence each.

    Without a unit it is a change of the stack, which may neither replace nor remove what `policy` protects.
    Source: AWS CloudFormation API, `DescribeChangeSet`, `ResourceChange`.
    """
    protection = StackPolicy.parse(policy)
    found = []
    for change in changes:
        resource = change.get("ResourceChange")
        if resource is None:
            found.append(f"a change that is no resource: {change.get('Type')}")
        elif complaint := _violation_of_unit(resource, unit) if unit else _violation_of_policy(resource, protection):
            found.append(f"{resource['LogicalResourceId']} ({resource['ResourceType']}): {complaint}")
    return found


def _violation_of_unit(resource: Change, unit: Unit) -> str | None:
    kind, action = resource["ResourceType"], resource["Action"]
    if not resource["LogicalResourceId"].startswith(unit.prefix):
        return f"is none of {unit.name}'s"
    if kind in VERSIONED:
        return None if action in ("Add", "Remove") and _keeps_old(resource) else f"{action} of a version"
    if action != "Modify":
        return f"is not changed but: {action}"
    if kind.startswith("Custom::"):
        return None  # CloudFormation cannot know whether it is replaced; ours keeps its physical id
    return "may be replaced" if resource.get("Replacement", "False") != "False" else None


def _violation_of_policy(resource: Change, protection: StackPolicy) -> str | None:
    """What is only perhaps replaced (`Conditional`) is left to CloudFormation, which holds itself to the policy."""
    if not protection.protects(resource["ResourceType"], resource["LogicalResourceId"]):
        return None
    if resource["Action"] not in ("Add", "Modify"):
        return f"is lost: {resource['Action']}"
    return "is replaced" if resource.get("Replacement") == "True" else None


def _keeps_old(resource: Change) -> bool:
    """Tell whether a version that leaves the stack stays in the account; on instances it would cost, and may go."""
    on_instances = resource["LogicalResourceId"].startswith("StreamChatInstancesFunctionVersion")
    return bool(resource["Action"] == "Add" or resource.get("PolicyAction") == "Retain" or on_instances)


def main() -> None:
    """Read a change set (`aws cloudformation describe-change-set`) from standard input; fail at a violation."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("unit", help="a unit, or stack")
    name = parser.parse_args().unit
    found = violations(json.load(sys.stdin)["Changes"], None if name == "stack" else unit_named(name))
    print("\n".join(found) or "no violations")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
