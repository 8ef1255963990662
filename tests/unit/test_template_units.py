"""What deploy/ takes for granted about template.yaml."""

import copy
import json
import re

import pytest

from deploy.template import dump, load, parameters, with_code, without_code
from deploy.units import UNITS, unit_named
from tests.kit.cloudformation import TEMPLATE

SHARED_ALARMS = {
    "FirstDeltaAlarm",
    "CancelLatencyAlarm",
    "RedisAlarm",
    "LostEndAlarm",
    "ThrottlesAlarm",
    "DatabaseConnectionsAlarm",
}
SMOKE = {"SmokeLogGroup", "SmokeRole"}
DIGEST = {"Settings", "Digest", "DigestLogGroup", "DigestRole"}
SHARED = {"ReadStores", "ChatDashboard"} | SHARED_ALARMS | DIGEST | SMOKE
OWN_KINDS = ("AWS::Serverless::Function", "AWS::Serverless::LayerVersion", "AWS::Logs::LogGroup", "Custom::Migration")


def packaged(mark):
    """The template as `sam package` leaves it: code lies in a bucket."""
    result = copy.deepcopy(TEMPLATE)
    for unit in UNITS:
        for name, place in unit.code:
            result["Resources"][name]["Properties"][place] = f"s3://bucket/{mark}/{name}"
    return result


def code_of(template):
    return {(name, p): template["Resources"][name]["Properties"][p] for u in UNITS for name, p in u.code}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_each_unit_has_its_code_in_the_template(unit):
    for name, place in unit.code:
        expected = unit.folder + "/" if place == "CodeUri" else "layers/common/"
        assert TEMPLATE["Resources"][name]["Properties"][place] == expected


def test_what_belongs_to_a_function_carries_its_prefix_and_nothing_else_does():
    prefixes = tuple(unit.prefix for unit in UNITS)
    for name, resource in TEMPLATE["Resources"].items():
        if resource["Type"] in OWN_KINDS and name not in SHARED:
            assert name.startswith(prefixes), name
        if name.startswith(prefixes):
            assert resource["Type"].startswith(
                ("AWS::Serverless", "AWS::Logs", "AWS::IAM", "AWS::Cloud", "AWS::Lambda", "Custom")
            )
    assert not [name for name in SHARED if name.startswith(prefixes)]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_nobody_else_reads_an_attribute_of_a_units_resources(unit):
    """Delivering the unit would count as a change of the reader: CloudFormation cannot know that it stays the same."""
    for name, resource in TEMPLATE["Resources"].items():
        text = json.dumps(resource)
        read = re.findall(rf'"Fn::GetAtt": \["({unit.prefix}\w*)"', text)
        read += re.findall(rf"\$\{{({unit.prefix}\w*)\.", text)
        assert name.startswith(unit.prefix) or not read, f"{name} reads {read}"


def test_layers_are_kept_and_publish_a_version_of_the_function_that_pins_them():
    for unit in UNITS:
        layer = TEMPLATE["Resources"][f"{unit.prefix}Layer"]["Properties"]
        function = TEMPLATE["Resources"][f"{unit.prefix}Function"]["Properties"]
        assert (layer["RetentionPolicy"], layer["PublishLambdaVersion"]) == ("Retain", True)
        assert function["Layers"][0] == {"Ref": f"{unit.prefix}Layer"}, "SAM sees a new layer only through a plain Ref"
        assert len(function["Layers"]) == (2 if unit.name == "stream_chat" else 1), "the second one is for traces"
        assert function["AutoPublishAliasAllProperties"] is True


def test_delivering_a_unit_changes_its_code_and_nothing_else():
    before = packaged("old")
    after = with_code(before, packaged("new"), unit_named("stream_chat"))
    changed = {key for key, value in code_of(after).items() if value != code_of(before)[key]}
    assert changed == set(unit_named("stream_chat").code)
    for name, place in changed:
        after["Resources"][name]["Properties"][place] = before["Resources"][name]["Properties"][place]
    assert after == before == packaged("old")


def test_delivering_the_stack_changes_everything_but_code():
    new = packaged("new")
    new["Resources"]["CreateChatFunction"]["Properties"]["MemorySize"] = 1024
    del new["Resources"]["RedisAlarm"]
    result = without_code(new, packaged("old"))
    assert code_of(result) == code_of(packaged("old"))
    assert result["Resources"]["CreateChatFunction"]["Properties"]["MemorySize"] == 1024
    assert "RedisAlarm" not in result["Resources"]


def test_a_function_that_is_not_deployed_yet_brings_its_code():
    old = packaged("old")
    del old["Resources"]["CancelStreamFunction"]
    result = without_code(packaged("new"), old)
    assert (
        result["Resources"]["CancelStreamFunction"]["Properties"]["CodeUri"] == "s3://bucket/new/CancelStreamFunction"
    )


def test_parameters_stay_as_they_are_deployed_unless_told_otherwise():
    found = parameters({"Parameters": {"A": {}, "B": {}, "C": {}}}, {"A": "1", "B": "****", "Gone": "x"}, {"A": "2"})
    assert found == [
        {"ParameterKey": "A", "ParameterValue": "2"},
        {"ParameterKey": "B", "UsePreviousValue": True},
    ]
    with pytest.raises(LookupError, match="no parameter D"):
        parameters({"Parameters": {"A": {}}}, {}, {"D": "1"})


def test_a_template_survives_being_written_and_read():
    assert load(dump(TEMPLATE)) == TEMPLATE
