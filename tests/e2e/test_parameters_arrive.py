"""Invariant 28: a parameter that a function reads reaches the live alias. Each is sent through SAM's own transform."""

import functools
import itertools
import json

import pytest

from tests.kit.cloudformation import TEMPLATE, Rendered
from tests.kit.sam_transform import packaged, transform

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("sam_transform")]

STACKS = {
    "as it comes": {"OpenAiApiKey": "sk-1"},
    "your stores": {
        **{"OpenAiApiKey": "sk-1", "RedisUrl": "rediss://:pw@cache.example:6379/0"},
        **{"MysqlUrl": "mysql://u:pw@db.example/chat", "MysqlAdminUrl": "mysql://a:pw@db.example/chat"},
    },
    "tokens": {
        **{"OpenAiApiKey": "secretsmanager:ai", "UrlAuth": "NONE", "ChatAuth": "jwt", "JwtIssuer": "i"},
        **{"JwtAudience": "a", "JwtSecret": "s3cret"},
    },
    "keys of an issuer": {
        **{"OpenAiApiKey": "ssm:ai", "UrlAuth": "NONE", "ChatAuth": "jwt", "JwtIssuer": "i", "JwtAudience": "a"},
        "JwtJwksUrl": "https://id.example/keys",
    },
    "instances": {"OpenAiApiKey": "sk-1", "StreamOnInstances": "true"},
    "your network": {
        **{"OpenAiApiKey": "sk-1", "VpcId": "vpc-1", "SubnetIds": "subnet-1,subnet-2", "SecurityGroupIds": "sg-1"},
    },
}
OTHER = {
    "ChatModels": "one,two",
    "Tracing": "otlp",
    "TracingLayerArn": "arn:aws:lambda:eu-west-1:111122223333:layer:another:1",
    "OtlpEndpoint": "https://traces.example",
    "OtlpHeaders": "key=another",
    "BedrockModels": "both",
    "ModelSecrets": "arn:aws:secretsmanager:eu-west-1:1:secret:another",
    "AiBody": '{"temperature": 1}',
    "AiHeaders": '{"x-title": "chat"}',
    "ChatTitles": "ai",
    "ChatTitleModel": "two",
    "OpenAiApiKey": "sk-2",
    "OpenAiBaseUrl": "https://ai.example/v1",
    "OpenAiModel": "another",
    "JwtJwksUrl": "https://id.example/others",
    "JwtSecret": "an0ther",
    "JwtIssuer": "another",
    "JwtAudience": "another",
    "JwtUserClaim": "oid",
    "FrontDoorArn": "arn:aws:cloudfront::111122223333:distribution/E2",
    "JwtHeader": "X-Another",
    "JwtCookie": "another",
    "AllowedOrigins": "https://another.example",
    "RedisUrl": "rediss://another.example",
    "MysqlUrl": "mysql://u:another@db.example/chat",
    "MysqlAdminUrl": "mysql://a:another@db.example/chat",
    "DatabaseVersion": "another",
    "VpcId": "vpc-2",
    "SubnetIds": "subnet-3,subnet-4",
    "SecurityGroupIds": "sg-2",
    "VpcCidr": "10.30.0.0/16",
    "AlarmTopicArn": "arn:aws:sns:eu-west-1:1:t",
}
TOGETHER = {
    "ChatAuth": {"tokens": {"UrlAuth": "AWS_IAM"}},
    "Tracing": {title: {"TracingLayerArn": "arn:aws:lambda:eu-west-1:111122223333:layer:otel:1"} for title in STACKS},
}
"""What has to be changed with a parameter for the stack to be allowed."""
NOT_READ = {
    "FrontDoorArn": "a right to ask the URL",
    "UrlAuth": "a property of the URL, which asks the alias's callers before they reach a version",
    "AllowedOrigins": "a property of the URL",
    **dict.fromkeys(("BedrockModels", "ModelSecrets"), "rights of the role"),
    "TrafficShift": "how an alias moves",
    **dict.fromkeys(("StreamConcurrency", "CreateConcurrency", "CancelConcurrency"), "the function's, in all versions"),
    "StreamProvisionedConcurrency": "a property of the alias",
    "InstanceMaxVcpus": "a property of the instances",
    "LogRetentionDays": "a property of the log group",
    "VpcId": "the groups that belong to it are what a function is given",
    "RedisPort": "a rule of a security group",
    "MysqlPort": "a rule of a security group",
    "VpcCidr": "new subnets, whose ids are read",
    **dict.fromkeys(("DatabaseMinCapacity", "DatabaseMaxCapacity", "DatabaseVersion"), "the database's own"),
    **dict.fromkeys(("DeletionProtection", "CacheMaxGigabytes"), "the stores' own"),
    **dict.fromkeys(("Dashboard", "AlarmTopicArn", "ConnectionsAlarm"), "for people"),
}
READ = sorted(set(TEMPLATE["Parameters"]) - set(NOT_READ))


def other(name, value):
    """Return another value of a parameter."""
    declared = TEMPLATE["Parameters"][name]
    if name in OTHER:
        return OTHER[name]
    if "AllowedValues" in declared:
        return next(str(choice) for choice in declared["AllowedValues"] if str(choice) != value)
    return str(float(value) + 1).removesuffix(".0") if declared["Type"] == "Number" else "another"


def changed(title, name):
    """Return the parameters of a stack with one of them changed."""
    stack, declared = STACKS[title], TEMPLATE["Parameters"][name]
    value = other(name, stack.get(name, str(declared["Default"])))
    return {**stack, name: value, **TOGETHER.get(name, {}).get(title, {})}


CASES = [(title, None) for title in STACKS] + [
    (title, name)
    for title, name in itertools.product(STACKS, TEMPLATE["Parameters"])
    if title == "as it comes"
    or name in STACKS[title]
    or name in TOGETHER
    or (title, name[:8]) == ("instances", "Instance")
]
"""Each parameter in the stack as it comes, and in those that set it."""


@functools.cache
def rendered():
    """Every stack, as it is and with each parameter changed, as CloudFormation makes it of what SAM hands over."""
    values = [STACKS[title] if name is None else changed(title, name) for title, name in CASES]
    templates = transform([(packaged(), given) for given in values])
    found = {}
    for case, template, given in zip(CASES, templates, values, strict=True):
        candidate = Rendered({**TEMPLATE, **template}, **given)
        if not candidate.broken_rules:
            found[case] = candidate
    return found


def versions(stack):
    """Return what makes each function's version another one: its logical id and its description.

    What the digests are made of stands in their place.
    """
    digests = {}
    for name in ("Settings", "StreamChatSettings"):
        shared = digests.get("<Settings.Digest>")
        digests[f"<{name}.Digest>"] = [
            shared if value == "<Settings.Digest>" else value for value in stack.of(name).values()
        ]
    return {
        resource["Properties"]["FunctionName"]: (name, digests[resource["Properties"]["Description"]])
        for name, resource in stack.resources.items()
        if resource["Type"] == "AWS::Lambda::Version"
    }


def seen(stack):
    """Return what each function sees of the parameters: its configuration, and the secrets that it names."""
    found = {}
    for name, resource in stack.resources.items():
        if resource["Type"] != "AWS::Lambda::Function" or name == "Digest":
            continue
        outside = ("Code", "ReservedConcurrentExecutions", "Tags")
        properties = {key: value for key, value in resource["Properties"].items() if key not in outside}
        environment = properties["Environment"]["Variables"]
        places = [str(value).removeprefix("secretsmanager:<").removesuffix(">") for value in environment.values()]
        secrets = [stack.of(place).get("SecretString") for place in places if place in stack.names]
        found[f"<{name}>"] = json.dumps([properties, secrets], sort_keys=True)
    return found


def test_each_parameter_is_said_to_be_read_or_not():
    assert set(NOT_READ) < set(TEMPLATE["Parameters"])
    assert len(rendered()) > len(TEMPLATE["Parameters"]), "most changes are allowed"


@pytest.mark.parametrize("name", READ)
def test_a_parameter_that_a_function_reads_makes_a_version_of_it_and_the_alias_moves(name):
    functions = set()
    for title in STACKS:
        before, after = rendered()[title, None], rendered().get((title, name))
        if after is None:
            continue
        was, now = seen(before), seen(after)
        old, new = versions(before), versions(after)
        readers = {function for function in was.keys() & now.keys() if was[function] != now[function]}
        functions |= readers | (now.keys() - was.keys())
        assert [function for function in readers if old[function] == new[function]] == [], title
    assert functions, "no function reads it: say so in NOT_READ"


@pytest.mark.parametrize("name", sorted(NOT_READ))
def test_what_no_function_reads_publishes_nothing(name):
    """Nor could it: Lambda refuses to publish a version of a function that has not changed."""
    for title in STACKS:
        after = rendered().get((title, name))
        if after is not None and name != "VpcId":
            assert seen(rendered()[title, None]) == seen(after)
            assert versions(rendered()[title, None]) == versions(after), title


def test_a_version_is_replaced_only_together_with_its_function_which_lambda_demands():
    for stack in rendered().values():
        for name, resource in stack.resources.items():
            if resource["Type"] == "AWS::Lambda::Version":
                function = resource["Properties"]["FunctionName"].strip("<>")
                digest = stack.of(function)["Environment"]["Variables"]["CHAT_SETTINGS_DIGEST"]
                assert resource["Properties"]["Description"] == digest, name
                alias = stack.of(f"{function}Aliaslive")
                assert alias["FunctionVersion"] == f"<{name}.Version>"


def test_opening_the_url_to_tokens_leaves_no_version_that_believes_a_header():
    """What issue 19 found: UrlAuth=NONE ChatAuth=jwt opened the URL while `live` still trusted X-User-Id."""
    before, after = (rendered()[title, None] for title in ("as it comes", "tokens"))
    assert all(versions(after)[name] != version for name, version in versions(before).items())


def test_versions_that_are_replaced_stay_so_that_the_alias_can_be_taken_back():
    for stack in (rendered()["as it comes", None], rendered()["instances", None]):
        for name, resource in stack.resources.items():
            if resource["Type"] == "AWS::Lambda::Version" and not name.startswith("StreamChatInstances"):
                assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain", "Retain")
