"""The stack policy: CloudFormation itself refuses to replace or remove what holds data, or an address that others know.

    python -m deploy.stack_policy aiva-chat          put it into force; delivering the stack does so too
    python -m deploy.stack_policy aiva-chat --lift   allow everything until the next delivery of the stack

`stack_policy.json` names types and resources. It holds for every update, a plain `sam deploy` included.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POLICY = (Path(__file__).parent / "stack_policy.json").read_text()
LIFTED = json.dumps({"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "Update:*", "Resource": "*"}]})


@dataclass(frozen=True, slots=True)
class StackPolicy:
    """What a policy of the form of `stack_policy.json` lets nobody replace or remove.

    Source: AWS CloudFormation User Guide, "Prevent updates to stack resources".
    """

    types: frozenset[str]
    logical_ids: frozenset[str]

    @classmethod
    def parse(cls, body: str) -> StackPolicy:
        """Read a policy's JSON."""
        denials = [entry for entry in json.loads(body)["Statement"] if entry["Effect"] == "Deny"]
        types = (entry.get("Condition", {}).get("StringEquals", {}).get("ResourceType", []) for entry in denials)
        named = (entry["Resource"] for entry in denials if isinstance(entry["Resource"], list))
        ids = (name.removeprefix("LogicalResourceId/") for names in named for name in names)
        return cls(frozenset(kind for kinds in types for kind in kinds), frozenset(ids))

    def protects(self, kind: str, logical_id: str) -> bool:
        """Tell whether a resource may neither be replaced nor removed."""
        return kind in self.types or logical_id in self.logical_ids


def in_force(cloudformation: Any, stack: str) -> str:
    """Return the policy of a stack; ours where it has none yet."""
    found = cloudformation.get_stack_policy(StackName=stack).get("StackPolicyBody")
    return str(found) if found else POLICY


def put(cloudformation: Any, stack: str, policy: str = POLICY) -> None:
    """Put a policy into force. A stack's policy can be changed afterwards, but not removed."""
    cloudformation.set_stack_policy(StackName=stack, StackPolicyBody=policy)


def main() -> None:
    """Protect a stack, or lift its protection."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stack")
    parser.add_argument("--lift", action="store_true")
    arguments = parser.parse_args()
    import boto3

    put(boto3.client("cloudformation"), arguments.stack, LIFTED if arguments.lift else POLICY)


if __name__ == "__main__":
    main()
