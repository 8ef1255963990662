"""What a change set may contain."""

import json
import subprocess
import sys

import pytest

from deploy.change_set import violations
from deploy.stack_policy import LIFTED, POLICY, StackPolicy
from deploy.units import UNITS, unit_named
from tests.kit.cloudformation import TEMPLATE

CREATE = unit_named("create_chat")


def change(name, kind, action="Modify", replacement="False", **more):
    resource = {"LogicalResourceId": name, "ResourceType": kind, "Action": action, **more}
    return {"Type": "Resource", "ResourceChange": {**resource, "Replacement": replacement}}


DELIVERY = [
    change("CreateChatFunction", "AWS::Lambda::Function"),
    change("CreateChatFunctionVersionaaaa", "AWS::Lambda::Version", "Add"),
    change("CreateChatFunctionVersionbbbb", "AWS::Lambda::Version", "Remove", PolicyAction="Retain"),
    change("CreateChatLayercccc", "AWS::Lambda::LayerVersion", "Add"),
    change("CreateChatLayerdddd", "AWS::Lambda::LayerVersion", "Remove", PolicyAction="Retain"),
    change("CreateChatFunctionAliaslive", "AWS::Lambda::Alias"),
]


def test_new_code_of_one_function_is_allowed():
    assert violations(DELIVERY, CREATE) == []


def test_a_migration_may_touch_its_custom_resource():
    changes = [
        change("MigrationFunction", "AWS::Lambda::Function"),
        change("Migration", "Custom::Migration", replacement="Conditional"),
    ]
    assert violations(changes, unit_named("migrations")) == []


@pytest.mark.parametrize(
    ("other", "complaint"),
    [
        (change("StreamChatFunction", "AWS::Lambda::Function"), "is none of create_chat's"),
        (change("Database", "AWS::RDS::DBCluster"), "is none of create_chat's"),
        (change("ReadStores", "AWS::IAM::ManagedPolicy"), "is none of create_chat's"),
        (change("CreateChatFunctionUrl", "AWS::Lambda::Url", "Remove"), "is not changed but: Remove"),
        (change("CreateChatSecondRole", "AWS::IAM::Role", "Add"), "is not changed but: Add"),
        (change("CreateChatFunctionUrl", "AWS::Lambda::Url", replacement="True"), "may be replaced"),
        (change("CreateChatFunction", "AWS::Lambda::Function", replacement="Conditional"), "may be replaced"),
        (
            change("CreateChatLayerx", "AWS::Lambda::LayerVersion", "Remove", PolicyAction="Delete"),
            "Remove of a version",
        ),
        (change("CreateChatLayerx", "AWS::Lambda::LayerVersion", "Remove"), "Remove of a version"),
        (change("CreateChatFunctionVersionx", "AWS::Lambda::Version", "Modify"), "Modify of a version"),
        ({"Type": "Hook"}, "no resource"),
    ],
)
def test_anything_else_is_a_violation(other, complaint):
    (found,) = violations([*DELIVERY, other], CREATE)
    assert complaint in found


def test_a_version_on_instances_may_go_because_it_would_cost():
    gone = change("StreamChatInstancesFunctionVersionx", "AWS::Lambda::Version", "Remove", PolicyAction="Delete")
    assert violations([gone], unit_named("stream_chat")) == []
    other = change("StreamChatFunctionVersionx", "AWS::Lambda::Version", "Remove", PolicyAction="Delete")
    assert violations([other], unit_named("stream_chat"))


LOST = [
    change("Database", "AWS::RDS::DBCluster", replacement="True"),
    change("Cache", "AWS::ElastiCache::ServerlessCache", "Remove"),
    change("StreamChatFunctionUrl", "AWS::Lambda::Url", "Remove"),
    change("UserHashKey", "AWS::SecretsManager::Secret", replacement="True"),
]


def test_the_stack_may_change_anything_that_its_policy_allows():
    fine = [
        change("FirstDeltaAlarm", "AWS::CloudWatch::Alarm", "Remove"),
        change("Database", "AWS::RDS::DBCluster"),
        change("CreateChatRole", "AWS::IAM::Role", replacement="True"),
        change("JwtSecretSecret", "AWS::SecretsManager::Secret", "Remove"),
        change("CreateChatFunctionVersionx", "AWS::Lambda::Version", replacement="True"),
    ]
    assert violations(fine, None) == []
    assert [text.partition(" ")[0] for text in violations(LOST, None)] == [
        *("Database", "Cache", "StreamChatFunctionUrl", "UserHashKey")
    ]


def test_what_cloudformation_cannot_say_yet_is_left_to_the_policy():
    assert violations([change("Database", "AWS::RDS::DBCluster", replacement="Conditional")], None) == []


def test_a_lifted_policy_lets_everything_through_and_units_are_held_to_theirs():
    assert violations(LOST, None, LIFTED) == []
    assert len(violations(LOST, CREATE, LIFTED)) == 4


def test_the_policy_allows_updates_and_protects_what_is_in_the_template():
    allow, *denials = json.loads(POLICY)["Statement"]
    assert (allow["Effect"], allow["Action"], allow["Resource"]) == ("Allow", "Update:*", "*")
    assert all(set(entry["Action"]) == {"Update:Replace", "Update:Delete"} for entry in denials)
    protection = StackPolicy.parse(POLICY)
    assert protection.logical_ids < set(TEMPLATE["Resources"])
    made_by_sam = {"AWS::Lambda::Url", "AWS::Lambda::Function"}
    assert protection.types - made_by_sam < {resource["Type"] for resource in TEMPLATE["Resources"].values()}
    kept = {n for n, r in TEMPLATE["Resources"].items() if "GenerateSecretString" in r.get("Properties", {})}
    assert protection.logical_ids == kept, "what is drawn at random cannot be made again"


def run(program, text, *arguments):
    return subprocess.run([sys.executable, "-m", program, *arguments], input=text, capture_output=True, text=True)


def test_the_command_fails_at_a_violation():
    assert run("deploy.change_set", json.dumps({"Changes": DELIVERY}), "create_chat").returncode == 0
    refused = run("deploy.change_set", json.dumps({"Changes": DELIVERY}), "stream_chat")
    assert refused.returncode == 1
    assert "CreateChatFunction (AWS::Lambda::Function): is none of stream_chat's" in refused.stdout


def test_a_name_that_is_no_unit_is_refused_with_the_names_that_are():
    with pytest.raises(LookupError, match="create_chat, cancel_stream, manage_chats, stream_chat"):
        unit_named("creat_chat")


def test_units_are_told_apart_by_their_prefix():
    prefixes = [unit.prefix for unit in UNITS]
    assert not [a for a in prefixes for b in prefixes if a != b and a.startswith(b)]
