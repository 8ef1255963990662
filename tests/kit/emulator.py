"""ministack, an emulator of AWS without Docker: CloudFormation with SAM's transform, Lambda in processes, S3, IAM.

What it cannot hold is taken out of the template, and is tested elsewhere or not at all:
- CodeDeploy: gradual shift, hooks before traffic, alarms that take a version back. The alias moves at once.
- Alarms on an expression; `Fn::Split` and `Fn::Join` in conditions, which are computed here instead.
- ElastiCache Serverless, Aurora, RDS Proxy, and a network: the stores are real servers of the tests.
- stream_chat's wrapper, so answers: those run on AWS's own emulator (tests/e2e/test_functions_on_rie.py).
- IAM: whatever a role may do, everything is allowed.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.kit.cloudformation import TEMPLATE, Rendered
from tests.kit.waiting import until_sync

BIN = Path(__file__).parents[2] / ".build" / "emulator" / "bin"
BUCKET = "artifacts"
SERVICES = "cloudformation,lambda,s3,iam,sts,logs,secretsmanager,ssm,cloudwatch,ec2,rds,elasticache,events,scheduler"


def holdable(template: dict[str, Any], parameters: dict[str, str]) -> dict[str, Any]:
    """Return a template as the emulator can hold it, with these parameters."""
    result = copy.deepcopy(template)
    rendered = Rendered(**parameters)
    for name in result["Conditions"]:
        result["Conditions"][name] = {"Fn::Equals": ["true", str(rendered.condition(name)).lower()]}
    for name, resource in TEMPLATE["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            result["Resources"][name]["Properties"].pop("DeploymentPreference", None)
        if resource["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in resource["Properties"]:
            del result["Resources"][name]
    return result


@dataclass(frozen=True)
class Emulator:
    """A running emulator, and one stack on it."""

    endpoint: str
    stack: str = "aiva-chat"

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name="eu-west-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def put(self, key: str, body: bytes) -> str:
        """Store an object and return its address in the form that templates use."""
        self.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)
        return f"s3://{BUCKET}/{key}"

    def create(self, template: dict[str, Any], parameters: dict[str, str]) -> str:
        """Create the stack and return its status in the end."""
        self.client("cloudformation").create_stack(**self._asked(template, parameters))
        return self._settled()

    def update(self, template: dict[str, Any], parameters: dict[str, str]) -> str:
        """Update the stack and return its status in the end."""
        self.client("cloudformation").update_stack(**self._asked(template, parameters))
        return self._settled()

    def delete(self) -> None:
        """Delete the stack and return when it is gone."""
        client = self.client("cloudformation")
        client.delete_stack(StackName=self.stack)
        client.get_waiter("stack_delete_complete").wait(
            StackName=self.stack, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )

    def failures(self) -> list[str]:
        """What failed, the cause first."""
        events = self.client("cloudformation").describe_stack_events(StackName=self.stack)["StackEvents"]
        failed = [event for event in reversed(events) if event["ResourceStatus"].endswith("_FAILED")]
        return [f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason')}" for event in failed]

    def physical(self, logical_id: str) -> str:
        found = self.client("cloudformation").describe_stack_resource(
            StackName=self.stack, LogicalResourceId=logical_id
        )
        return str(found["StackResourceDetail"]["PhysicalResourceId"])

    def live(self, function: str) -> str:
        """The version that the alias of a function points at."""
        client = self.client("lambda")
        return str(client.get_alias(FunctionName=self.physical(function), Name="live")["FunctionVersion"])

    def invoke(self, function: str, event: dict[str, Any]) -> dict[str, Any]:
        """Invoke what is live."""
        reply = self.client("lambda").invoke(
            FunctionName=self.physical(function), Qualifier="live", Payload=json.dumps(event).encode()
        )
        payload = reply["Payload"].read()
        assert "FunctionError" not in reply, payload
        found: dict[str, Any] = json.loads(payload)
        return found

    def _asked(self, template: dict[str, Any], parameters: dict[str, str]) -> dict[str, Any]:
        key = f"templates/{time.time_ns()}.json"
        self.put(key, json.dumps(holdable(template, parameters)).encode())
        return {
            "StackName": self.stack,
            "TemplateURL": f"{self.endpoint}/{BUCKET}/{key}",
            "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
            "Capabilities": ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
        }

    def _settled(self) -> str:
        client = self.client("cloudformation")

        def status() -> str:
            return str(client.describe_stacks(StackName=self.stack)["Stacks"][0]["StackStatus"])

        until_sync(lambda: not status().endswith("_IN_PROGRESS"), "the stack to settle", seconds=120)
        return status()


@contextmanager
def running_emulator(folder: Path) -> Iterator[Emulator]:
    """Run an emulator on a port of its own."""
    if not (BIN / "ministack").exists():
        pytest.skip("the emulator is not at hand: make emulator brings it")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {
        **{"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder), "GATEWAY_PORT": str(port)},
        **{"BIND_HOST": "127.0.0.1", "SERVICES": SERVICES, "AWS_DEFAULT_REGION": "eu-west-1"},
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [BIN / "ministack"], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            until_sync(lambda: _listens(port), "the emulator to listen", seconds=30)
            emulator = Emulator(f"http://127.0.0.1:{port}")
            where = {"LocationConstraint": "eu-west-1"}
            emulator.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=where)
            yield emulator
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
