"""CloudFormation's conditions, rules and functions, as far as template.yaml uses them: what a stack would get."""

from __future__ import annotations

import functools
import itertools
import re
from pathlib import Path
from typing import Any

from deploy.template import load

TEMPLATE = load((Path(__file__).parents[2] / "template.yaml").read_text())
PSEUDO = {
    "AWS::AccountId": "111122223333",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::StackName": "aiva-chat",
}
NOTHING = object()
_MADE_BY_SAM = ("FunctionUrl", "Function.Version", "Function.Alias", "FunctionAliaslive")


class Dangling(AssertionError):
    """Something refers to what is not in the stack."""


class Rendered:
    """The template with these parameters; refuses what CloudFormation would refuse."""

    def __init__(self, template: dict[str, Any] = TEMPLATE, /, **parameters: str) -> None:
        self.template = template
        declared = template["Parameters"]
        assert set(parameters) <= set(declared), set(parameters) - set(declared)
        self.parameters = {name: str(parameters.get(name, entry.get("Default"))) for name, entry in declared.items()}
        for name, value in self.parameters.items():
            self._check(name, value, declared[name])
        self._conditions: dict[str, bool] = {}
        self.names = {
            name
            for name, resource in self.template["Resources"].items()
            if "Condition" not in resource or self.condition(resource["Condition"])
        }
        self.resources = {name: self.value(self.template["Resources"][name]) for name in self.names}
        self.outputs = self.value(self.template["Outputs"])

    @property
    def broken_rules(self) -> list[str]:
        """The descriptions of all assertions that do not hold."""
        return [
            assertion["AssertDescription"]
            for rule in self.template["Rules"].values()
            if self.value(rule["RuleCondition"])
            for assertion in rule["Assertions"]
            if not self.value(assertion["Assert"])
        ]

    def condition(self, name: str) -> bool:
        if name not in self._conditions:
            self._conditions[name] = bool(self.value(self.template["Conditions"][name]))
        return self._conditions[name]

    def of(self, name: str) -> Any:
        """The properties of a resource."""
        return self.resources[name]["Properties"]

    def environment(self, function: str) -> dict[str, Any]:
        shared = self.value(self.template["Globals"]["Function"]["Environment"]["Variables"])
        return {**shared, **self.of(function)["Environment"]["Variables"]}

    def value(self, node: Any) -> Any:
        if isinstance(node, list):
            return [found for found in map(self.value, node) if found is not NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((name, argument),) = node.items()
            if name == "Ref" or (name == "Condition" and isinstance(argument, str)) or name.startswith("Fn::"):
                return getattr(self, "_" + name.removeprefix("Fn::").lower())(argument)
        kept = {
            key: entry
            for key, entry in node.items()
            if key != "Metadata" and not (key == "Condition" and isinstance(entry, str))
        }
        found = {key: self.value(entry) for key, entry in kept.items()}
        return {key: entry for key, entry in found.items() if entry is not NOTHING}

    def _check(self, name: str, value: str, declared: dict[str, Any]) -> None:
        if "AllowedPattern" in declared:
            assert re.fullmatch(declared["AllowedPattern"], value), f"{name} does not match"
        if "AllowedValues" in declared:
            assert value in map(str, declared["AllowedValues"]), f"{name} is not allowed"
        if declared["Type"] == "Number":
            assert float(declared.get("MinValue", 0)) <= float(value) <= float(declared.get("MaxValue", "inf")), name

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NOTHING
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.parameters:
            return self.parameters[name]
        return f"<{self._present(name)}>"

    def _getatt(self, path: list[str]) -> str:
        return f"<{self._present(path[0])}.{path[1]}>"

    def _present(self, name: str) -> str:
        base = name
        for made in _MADE_BY_SAM:
            base = name.replace(made, "Function") if made in name else base
        if base not in self.names:
            raise Dangling(name)
        return name

    def _sub(self, argument: Any) -> str:
        text, extra = argument if isinstance(argument, list) else (argument, {})
        known = {key: self.value(entry) for key, entry in extra.items()}

        def found(match: re.Match[str]) -> str:
            name = match[1]
            if name in known:
                return str(known[name])
            return self._getatt(name.split(".", 1)) if "." in name else str(self._ref(name))

        return re.sub(r"\$\{([A-Za-z0-9:.]+)\}", found, text)

    def _condition(self, name: str) -> bool:
        return self.condition(name)

    def _if(self, argument: list[Any]) -> Any:
        return self.value(argument[1] if self.condition(argument[0]) else argument[2])

    def _equals(self, argument: list[Any]) -> bool:
        left, right = (self.value(entry) for entry in argument)
        return str(left) == str(right)

    def _not(self, argument: list[Any]) -> bool:
        return not self.value(argument[0])

    def _and(self, argument: list[Any]) -> bool:
        return all(self.value(entry) for entry in argument)

    def _or(self, argument: list[Any]) -> bool:
        return any(self.value(entry) for entry in argument)

    def _join(self, argument: list[Any]) -> str:
        return str(argument[0]).join(str(part) for part in self.value(argument[1]))

    def _split(self, argument: list[Any]) -> list[str]:
        return str(self.value(argument[1])).split(argument[0])

    def _select(self, argument: list[Any]) -> Any:
        return self.value(argument[1])[int(argument[0])]

    def _getazs(self, _: Any) -> list[str]:
        return ["eu-west-1a", "eu-west-1b", "eu-west-1c"]

    def _cidr(self, argument: list[Any]) -> list[str]:
        return [f"subnet {number} of {self.value(argument[0])}" for number in range(int(argument[1]))]


CHOICES: dict[str, tuple[dict[str, str], ...]] = {
    "redis": ({}, {"RedisUrl": "rediss://:pw@cache.example:6379/0"}, {"RedisUrl": "secretsmanager:chat/redis#url"}),
    "mysql": (
        {},
        {"MysqlUrl": "mysql://u:pw@db.example/chat"},
        {"MysqlUrl": "ssm:/chat/mysql"},
        {"MysqlUrl": "secretsmanager:chat"},
    ),
    "key": ({"OpenAiApiKey": "sk-1"}, {"OpenAiApiKey": "ssm:key"}, {"OpenAiApiKey": "secretsmanager:ai#key"}),
    "network": (
        {},
        {"VpcId": "vpc-1", "SubnetIds": "subnet-1,subnet-2"},
        {"VpcId": "vpc-1", "SubnetIds": "subnet-1,subnet-2", "SecurityGroupIds": "sg-1,sg-2"},
    ),
    "who": (
        {},
        {
            "UrlAuth": "NONE",
            "ChatAuth": "jwt",
            "JwtIssuer": "i",
            "JwtAudience": "a",
            "JwtJwksUrl": "https://id.example/keys",
        },
        {
            **{"ChatAuth": "jwt", "JwtIssuer": "i", "JwtAudience": "a", "JwtSecret": "s3cret"},
            **{"JwtHeader": "X-Chat-Token", "JwtCookie": "chat"},
            "FrontDoorArn": "arn:aws:cloudfront::111122223333:distribution/E1",
        },
    ),
    "instances": ({}, {"StreamOnInstances": "true"}),
}
REST: tuple[dict[str, str], ...] = (
    {},
    {
        "DatabaseMinCapacity": "0",
        "AllowedOrigins": "https://a.example,https://b.example",
        "StreamConcurrency": "10",
        "CreateConcurrency": "5",
        "CancelConcurrency": "5",
        "StreamProvisionedConcurrency": "1",
        "AlarmTopicArn": "arn:aws:sns:eu-west-1:1:t",
    },
    {"Dashboard": "false"},
)

FURTHER: tuple[dict[str, str], ...] = (
    {"OpenAiBaseUrl": "bedrock", "OpenAiModel": "openai.gpt-oss-120b"},
    {"OpenAiBaseUrl": "bedrock-runtime:us-east-1", "OpenAiModel": "openai.gpt-oss-120b-1:0"},
    {"DatabaseProxy": "true"},
    {"DatabaseLogin": "iam"},
    {"MysqlUrl": "mysql://u:pw@db.example/chat", "MysqlAdminUrl": "mysql://admin:pw@db.example/chat"},
    {"MysqlUrl": "ssm:/chat/mysql", "MysqlAdminUrl": "secretsmanager:chat-admin#url"},
)


@functools.cache
def combinations() -> tuple[Rendered, ...]:
    """Render every combination of choices; those of `REST`, which concern nothing else, in turn.

    Further ways to MySQL and to an AI are combined with every network, on demand and on instances.
    """
    chosen = itertools.product(*CHOICES.values())
    every = [(*choices, rest) for choices, rest in zip(chosen, itertools.cycle(REST), strict=False)]
    key = CHOICES["key"][:1]
    every += itertools.product(FURTHER, CHOICES["network"], CHOICES["instances"], key)
    return tuple(Rendered(**{name: value for choice in choices for name, value in choice.items()}) for choices in every)
