"""Delivering, on a CloudFormation of a few lines that diffs templates as the real one does."""

import copy
import json

import pytest

from deploy.deliver import NotDelivered, Stack, deliver
from deploy.template import load
from deploy.units import UNITS

KINDS = {"Function": "AWS::Lambda::Function", "Cache": "AWS::ElastiCache::ServerlessCache"}


class Bucket:
    def __init__(self):
        self.bodies = {}

    def put_object(self, *, Bucket, Key, Body):  # noqa: N803
        self.bodies[f"https://{Bucket}.s3.amazonaws.com/{Key}"] = Body


class CloudFormation:
    """Two changes a page; a template without a change makes a change set that fails, as on AWS."""

    def __init__(self, template, bucket):
        self.template, self.bucket = copy.deepcopy(template), bucket
        self.parameters = {"Size": "1", "Key": "****"}
        self.change_sets = {}
        self.refusal = None

    def get_template(self, *, StackName, TemplateStage):  # noqa: N803
        assert TemplateStage == "Original", "not what the transforms made of it"
        return {"TemplateBody": json.dumps(self.template)}

    def describe_stacks(self, *, StackName):  # noqa: N803
        entries = [{"ParameterKey": k, "ParameterValue": v} for k, v in self.parameters.items()]
        return {"Stacks": [{"Parameters": entries}]}

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
        self.template, parameters = self.change_sets.pop(ChangeSetName)
        self.parameters.update({e["ParameterKey"]: e["ParameterValue"] for e in parameters if "ParameterValue" in e})

    def get_waiter(self, name):
        assert name == "stack_update_complete"
        return self

    def wait(self, **_):
        assert not self.change_sets, "executed"


def template(mark, **more):
    resources = {
        name: {"Type": "AWS::Serverless::X", "Properties": {place: f"s3://code/{mark}/{name}"}}
        for unit in UNITS
        for name, place in unit.code
    }
    parameters = {"Size": {"Type": "String"}, "Key": {"Type": "String", "NoEcho": True}}
    return {"Parameters": parameters, "Resources": {**resources, **more}}


@pytest.fixture
def stack():
    bucket = Bucket()
    return Stack("chat", "templates", CloudFormation(template("old"), bucket), bucket)


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


def test_a_change_set_that_is_not_clean_is_thrown_away_wherever_in_it_the_stain_is(stack):
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
