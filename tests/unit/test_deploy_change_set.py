"""What a change set may contain, and which units a change concerns."""

import json
import subprocess
import sys

import pytest

from deploy.change_set import stains
from deploy.units import UNITS, changed_units, unit_named

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


def test_new_code_of_one_function_is_clean():
    assert stains(DELIVERY, CREATE) == []


def test_a_migration_may_touch_its_custom_resource():
    changes = [
        change("MigrationFunction", "AWS::Lambda::Function"),
        change("Migration", "Custom::Migration", replacement="Conditional"),
    ]
    assert stains(changes, unit_named("migrations")) == []


@pytest.mark.parametrize(
    ("stain", "complaint"),
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
def test_anything_else_is_a_stain(stain, complaint):
    (found,) = stains([*DELIVERY, stain], CREATE)
    assert complaint in found


def test_a_version_on_instances_may_go_because_it_would_cost():
    gone = change("StreamChatInstancesFunctionVersionx", "AWS::Lambda::Version", "Remove", PolicyAction="Delete")
    assert stains([gone], unit_named("stream_chat")) == []
    other = change("StreamChatFunctionVersionx", "AWS::Lambda::Version", "Remove", PolicyAction="Delete")
    assert stains([other], unit_named("stream_chat"))


def test_the_stack_may_change_anything_but_lose_nothing_precious():
    fine = [
        change("FirstDeltaAlarm", "AWS::CloudWatch::Alarm", "Remove"),
        change("Database", "AWS::RDS::DBCluster"),
        change("CreateChatRole", "AWS::IAM::Role", replacement="True"),
        change("JwtSecretSecret", "AWS::SecretsManager::Secret", "Add"),
    ]
    assert stains(fine, None) == []
    lost = [
        change("Database", "AWS::RDS::DBCluster", replacement="True"),
        change("Cache", "AWS::ElastiCache::ServerlessCache", "Remove"),
        change("StreamChatFunctionUrl", "AWS::Lambda::Url", replacement="Conditional"),
    ]
    assert len(stains(lost, None)) == 3


def run(program, text, *arguments):
    return subprocess.run([sys.executable, "-m", program, *arguments], input=text, capture_output=True, text=True)


def test_the_command_fails_unless_the_change_set_is_clean():
    assert run("deploy.change_set", json.dumps({"Changes": DELIVERY}), "create_chat").returncode == 0
    refused = run("deploy.change_set", json.dumps({"Changes": DELIVERY}), "stream_chat")
    assert refused.returncode == 1
    assert "CreateChatFunction (AWS::Lambda::Function): is none of stream_chat's" in refused.stdout


@pytest.mark.parametrize(
    ("paths", "units"),
    [
        (["functions/create_chat/app.py"], ["create_chat"]),
        (["functions/stream_chat/app.py", "functions/cancel_stream/app.py"], ["cancel_stream", "stream_chat"]),
        (["migrations/versions/0002_more.py"], ["migrations"]),
        (["layers/common/chat/domain/answer.py"], ["migrations", "create_chat", "cancel_stream", "stream_chat"]),
        (
            ["packages/lambda-stream/src/lambda_stream/_event.py"],
            ["migrations", "create_chat", "cancel_stream", "stream_chat"],
        ),
        (["packages/lambda-stream/tests/test_event.py"], []),
        (["layers/common/requirements.txt"], ["migrations", "create_chat", "cancel_stream", "stream_chat"]),
        (["template.yaml", "functions/create_chat/app.py"], ["stack", "create_chat"]),
        (["README.md", "tests/unit/test_answer.py", "functions/create_chat_old/app.py", "docs/template.yaml"], []),
        ([], []),
    ],
)
def test_changed_paths_tell_what_is_to_be_delivered(paths, units):
    assert changed_units(paths) == units
    assert json.loads(run("deploy.units", "\n".join(paths)).stdout) == units


def test_a_name_that_is_no_unit_is_refused_with_the_names_that_are():
    with pytest.raises(LookupError, match="create_chat, cancel_stream, stream_chat"):
        unit_named("creat_chat")


def test_units_are_told_apart_by_their_prefix():
    prefixes = [unit.prefix for unit in UNITS]
    assert not [a for a in prefixes for b in prefixes if a != b and a.startswith(b)]
