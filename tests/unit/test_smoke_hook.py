"""The hooks that try a new version before traffic moves to it: template.yaml's CreateChatSmoke and its neighbours."""

import io
import json

import pytest

from tests.kit.cloudformation import TEMPLATE, Rendered

PREFIXES = ("CreateChat", "CancelStream", "ManageChats", "StreamChat")
EVENT = {"DeploymentId": "d-1", "LifecycleEventHookExecutionId": "hook-1"}
WELL = b'{"status": "ok", "mysql": {}}'
BUFFERED = json.dumps({"statusCode": 200, "body": WELL.decode()}).encode()
STREAMED = b'{"statusCode": 200, "headers": {}}' + bytes(8) + WELL.replace(b" ", b"")


def code(prefix):
    return TEMPLATE["Resources"][f"{prefix}Smoke"]["Properties"]["Code"]["ZipFile"]


class Aws:
    """Lambda and CodeDeploy, as far as a hook calls them."""

    def __init__(self, *replies):
        self.replies, self.asked, self.told, self.slept = list(replies), [], [], []

    def invoke(self, *, FunctionName, Payload):  # noqa: N803
        self.asked.append((FunctionName, json.loads(Payload)))
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        payload, more = reply if isinstance(reply, tuple) else (reply, {})
        return {"Payload": io.BytesIO(payload), **more}

    def put_lifecycle_event_hook_execution_status(self, **status):
        self.told.append(status)


@pytest.fixture
def run(monkeypatch):
    pytest.importorskip("boto3")
    monkeypatch.setenv("VERSION", "arn:aws:lambda:eu-west-1:1:function:chat:7")
    names = {}
    exec(code("StreamChat"), names)

    def asked(*replies):
        aws = Aws(*replies)
        names["handler"](EVENT, None, aws, aws, aws.slept.append)
        return aws

    return asked


def test_each_function_is_tried_in_the_same_way():
    assert len({code(prefix) for prefix in PREFIXES}) == 1


@pytest.mark.parametrize("reply", [BUFFERED, STREAMED], ids=["in one piece", "streamed"])
def test_a_version_that_says_it_is_well_gets_traffic(run, reply):
    aws = run(reply)
    assert aws.told == [
        {"deploymentId": "d-1", "lifecycleEventHookExecutionId": "hook-1", "status": "Succeeded"},
    ]
    ((version, event),) = aws.asked
    assert version.endswith(":7"), "the version, not the alias that still points at the old one"
    assert event["rawPath"] == event["requestContext"]["http"]["path"] == "/health"


def test_a_database_that_wakes_up_is_given_time(run):
    sick = BUFFERED.replace(b"ok", b"degraded")
    aws = run(sick, (b"{}", {"FunctionError": "Unhandled"}), BUFFERED)
    assert aws.told[0]["status"] == "Succeeded"
    assert sum(aws.slept) < 60


@pytest.mark.parametrize("reply", [BUFFERED.replace(b"ok", b"degraded"), (WELL, {"FunctionError": "Unhandled"}), b""])
def test_a_version_that_is_not_well_gets_none(run, reply):
    assert run(*[reply] * 4).told[0]["status"] == "Failed"


def test_codedeploy_hears_of_it_too_when_lambda_refuses_or_it_would_wait_for_an_hour(run, monkeypatch):
    aws = Aws(RuntimeError("AccessDenied"))
    names = {}
    exec(code("CreateChat"), names)
    with pytest.raises(RuntimeError):
        names["handler"](EVENT, None, aws, aws, aws.slept.append)
    assert aws.told[0]["status"] == "Failed"


def test_hooks_try_the_version_of_their_function_and_codedeploy_may_call_them():
    stack = Rendered(OpenAiApiKey="sk")
    for prefix in PREFIXES:
        hook, function = stack.of(f"{prefix}Smoke"), stack.of(f"{prefix}Function")
        assert function["DeploymentPreference"]["Hooks"] == {"PreTraffic": f"<{prefix}Smoke>"}
        assert hook["Environment"]["Variables"] == {"VERSION": f"<{prefix}Function.Version>"}
        assert hook["FunctionName"].startswith("CodeDeployHook_"), "the names that SAM's role for CodeDeploy may call"
        longest_name = 64 - len("-CancelStreamFunction-") - 12  # CloudFormation appends twelve characters
        assert longest_name >= 30, "docs/deploy.md: stack names"
    assert "StreamChatSmoke" not in Rendered(OpenAiApiKey="sk", StreamOnInstances="true").names
