"""A stack goes away: CloudFormation deletes in the reverse order of what depends on what, and whatever a Delete event
needs in order to be answered has to be there still."""

import json
import re

import pytest

from tests.kit.cloudformation import Rendered

KEY = {"OpenAiApiKey": "sk-1"}
STACKS = {
    "as it comes": KEY,
    "Bedrock": {"OpenAiBaseUrl": "bedrock", "OpenAiModel": "openai.gpt-oss-120b"},
    "your MySQL": {**KEY, "MysqlUrl": "mysql://u:pw@db.example/chat"},
    "your Redis": {**KEY, "RedisUrl": "rediss://cache.example"},
    "your stores on instances": {
        **{"RedisUrl": "rediss://cache.example", "MysqlUrl": "mysql://u:pw@db.example/chat"},
        **{**KEY, "StreamOnInstances": "true"},
    },
    "your network": {**KEY, "VpcId": "vpc-1", "SubnetIds": "subnet-1,subnet-2"},
}


def names_in(stack, node):
    """The resources that a part of the stack refers to."""
    return set(re.findall(r"<(\w+)[.>]", json.dumps(node))) & stack.names


def dependencies(stack, name):
    """All that is still there when this resource is deleted."""
    found, new = set(), {name}
    while new:
        found |= new
        resources = [stack.resources[entry] for entry in new]
        depends = {d for r in resources for d in ([r["DependsOn"]] if "DependsOn" in r else [])}
        new = (names_in(stack, resources) | (depends & stack.names)) - found
    return found


def of_kind(stack, kind, **properties):
    """The resources of a kind that have these properties."""
    return {
        name
        for name, resource in stack.resources.items()
        if resource["Type"] == kind
        and all(resource["Properties"].get(key) == value for key, value in properties.items())
    }


def way_out(stack, subnet):
    """What a packet from this subnet to the internet passes."""
    found = set()
    for association in of_kind(stack, "AWS::EC2::SubnetRouteTableAssociation", SubnetId=f"<{subnet}>"):
        table = stack.of(association)["RouteTableId"]
        routes = of_kind(stack, "AWS::EC2::Route", RouteTableId=table)
        found |= {association} | routes | names_in(stack, table)
        for route in routes:
            gateways = names_in(stack, [stack.of(route).get("NatGatewayId"), stack.of(route).get("GatewayId")])
            found |= gateways
            for gateway in gateways:
                found |= of_kind(stack, "AWS::EC2::VPCGatewayAttachment", InternetGatewayId=f"<{gateway}>")
                if stack.resources[gateway]["Type"] == "AWS::EC2::NatGateway":
                    found |= names_in(stack, stack.of(gateway)["AllocationId"])
                    found |= way_out(stack, *names_in(stack, stack.of(gateway)["SubnetId"]))
    return found


def needed_by(stack, function):
    """What a function needs for answering CloudFormation from where it runs."""
    properties = stack.of(function)
    found = {function} | names_in(stack, [properties["Role"], properties["LoggingConfig"]])
    network = properties.get("VpcConfig", {})
    for group in names_in(stack, network.get("SecurityGroupIds")):
        found |= {group} | of_kind(stack, "AWS::EC2::SecurityGroupEgress", GroupId=f"<{group}>", FromPort=443)
    for subnet in names_in(stack, network.get("SubnetIds")):
        found |= {subnet} | way_out(stack, subnet)
        found |= {name for name in of_kind(stack, "AWS::EC2::VPCEndpoint") if subnet in names_in(stack, stack.of(name))}
    return found


@pytest.mark.parametrize("title", STACKS)
def test_whatever_a_delete_event_needs_goes_after_it(title):
    stack = Rendered(**STACKS[title])
    custom = {name: r for name, r in stack.resources.items() if r["Type"].startswith("Custom::")}
    assert {"Migration", "Settings"} <= set(custom)
    for name, resource in custom.items():
        (function,) = names_in(stack, resource["Properties"]["ServiceToken"])
        missing = needed_by(stack, function) - dependencies(stack, name)
        assert not missing, f"{name} may be deleted after {sorted(missing)}"


def test_the_way_out_of_the_network_that_is_made_is_found_whole():
    """Otherwise the test above would demand too little."""
    stack = Rendered(**KEY)
    assert way_out(stack, "PrivateSubnetA") == {
        *{"PrivateSubnetARoutes", "PrivateRoutes", "PrivateRouteOut", "Nat", "NatAddress"},
        *{"PublicSubnetRoutes", "PublicRoutes", "PublicRouteOut", "Internet", "InternetAttached"},
    }


def test_what_a_function_writes_into_or_holds_goes_after_it():
    stack = Rendered(**KEY)
    for name, resource in stack.resources.items():
        if resource["Type"] == "AWS::Serverless::Function":
            assert names_in(stack, [stack.of(name)["Role"], stack.of(name)["LoggingConfig"]]) <= dependencies(
                stack, name
            )
