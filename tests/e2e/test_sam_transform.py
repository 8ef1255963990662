"""What SAM's own transform makes of template.yaml: it decides which versions are published. `make
lint-deploy` brings it."""

import copy

import pytest

from deploy.units import UNITS, unit_named
from tests.kit.cloudformation import TEMPLATE
from tests.kit.sam_transform import transform, with_code_at

pytestmark = pytest.mark.e2e


def transformed(mark=None, source=TEMPLATE, **parameters):
    """The resources that CloudFormation would get, with the code of `mark` lying elsewhere."""
    (found,) = transform([(with_code_at(source, mark), {"OpenAiApiKey": "sk", **parameters})])
    return found["Resources"]


@pytest.fixture(scope="module")
def before():
    return transformed()


@pytest.mark.parametrize("code", [name for unit in UNITS for name, _ in unit.code])
def test_new_code_or_a_new_layer_publishes_a_version_of_that_function_and_touches_nothing_else(before, code):
    after = transformed(code)
    names = set(before.keys() ^ after.keys())
    names |= {name for name in before.keys() & after.keys() if before[name] != after[name]}
    unit = next(unit for unit in UNITS if code in dict(unit.code))
    assert {before.get(name, after.get(name))["Type"] for name in names} >= {"AWS::Lambda::Version"}
    assert all(name.startswith(unit.prefix) for name in names), names


def test_a_layer_that_is_named_by_a_parameter_would_never_get_a_version_published():
    """Why each function has a layer of its own (ADR 7): if this fails, SAM has learnt it, and one layer would do."""
    source = copy.deepcopy(TEMPLATE)
    source["Parameters"]["LayerVersion"] = {"Type": "String"}
    source["Resources"]["CreateChatFunction"]["Properties"]["Layers"] = [{"Ref": "LayerVersion"}]
    layer = "arn:aws:lambda:eu-west-1:111122223333:layer:chat:"
    old, new = (transformed(source=source, LayerVersion=f"{layer}{version}") for version in (1, 2))
    assert old.keys() == new.keys(), "a version that is published has another logical id"


def test_all_that_the_transform_adds_for_a_function_carries_its_prefix(before):
    shared = {"ServerlessDeploymentApplication", "CodeDeployServiceRole"}
    prefixes = tuple(unit.prefix for unit in UNITS)
    assert {n for n in before if n not in TEMPLATE["Resources"] and not n.startswith(prefixes)} == shared


def test_versions_and_layers_that_leave_the_stack_stay_in_the_account(before):
    for name, resource in before.items():
        if resource["Type"] in ("AWS::Lambda::Version", "AWS::Lambda::LayerVersion"):
            on_instances = name.startswith("StreamChatInstances")
            assert resource["DeletionPolicy"] == ("Delete" if on_instances else "Retain")


def test_an_open_url_may_be_called_by_everyone_and_a_function_by_nobody_else(before):
    granted = [
        r for r in before.values() if r["Type"] == "AWS::Lambda::Permission" and r.get("Condition") == "OpensUrls"
    ]
    assert {(r["Condition"], r["Properties"]["Action"]) for r in granted} == {
        ("OpensUrls", "lambda:InvokeFunctionUrl"),
        ("OpensUrls", "lambda:InvokeFunction"),
    }
    for r in granted:
        limits = r["Properties"].get("FunctionUrlAuthType") == "NONE" or r["Properties"].get("InvokedViaFunctionUrl")
        assert limits, "through the URL only"
    aliases = {str(r["Properties"]["FunctionName"]) for r in granted}
    assert {"{'Ref': 'CreateChatFunctionAliaslive'}", "{'Ref': 'CancelStreamFunctionAliaslive'}"} < aliases
    assert len(granted) == 2 * len(aliases) == 8


def test_traffic_shifts_under_the_functions_own_alarms(before):
    for unit in UNITS[1:]:
        group = before[f"{unit.prefix}FunctionDeploymentGroup"]["Properties"]
        alarms = [alarm["Name"]["Ref"] for alarm in group["AlarmConfiguration"]["Alarms"]]
        assert f"{unit.prefix}ErrorsAlarm" in alarms
        assert before[f"{unit.prefix}FunctionAliaslive"]["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
    assert unit_named("stream_chat") in UNITS[1:]
