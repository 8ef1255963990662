"""template.yaml in every combination of its conditions, rendered as CloudFormation would."""

import json
import math
import re
from typing import ClassVar

import pytest

from chat.adapters.telemetry import metric_names
from chat.http.cors import REQUEST_HEADERS, RESPONSE_HEADERS
from chat.settings import Settings
from deploy.template import load
from tests.kit.cloudformation import CHOICES, TEMPLATE, Dangling, Rendered, combinations

pytestmark = pytest.mark.slow

KEY = {"OpenAiApiKey": "sk-1"}
TOKENS = {
    **{"UrlAuth": "NONE", "ChatAuth": "jwt", "JwtIssuer": "i", "JwtAudience": "a"},
    "JwtJwksUrl": "https://id.example/keys",
}
FRONT_DOOR = "arn:aws:cloudfront::111122223333:distribution/E2"
BEARER_TOKEN = '"Action": ["bedrock-mantle:CallWithBearerToken"], "Resource": "*"'
"""It knows no resources. Source: Service Authorization Reference, "Amazon Bedrock Powered by AWS Mantle"."""
MODEL = {"OpenAiModel": "openai.gpt-oss-120b"}
OWN_STORES = {"RedisUrl": "rediss://cache.example", "MysqlUrl": "mysql://u:pw@db.example/chat"}
OWN_NETWORK = {"VpcId": "vpc-1", "SubnetIds": "subnet-1,subnet-2"}
FUNCTIONS = (
    "CreateChatFunction",
    "CancelStreamFunction",
    "ManageChatsFunction",
    "StreamChatFunction",
    "MigrationFunction",
)


def functions(rendered):
    return {name: r for name, r in rendered.resources.items() if r["Type"] == "AWS::Serverless::Function"}


def test_every_combination_renders_without_a_dangling_reference_and_breaks_no_rule():
    for rendered in combinations():
        assert rendered.broken_rules == [], rendered.parameters
    assert len(combinations()) > math.prod(len(choices) for choices in CHOICES.values())


def test_a_reference_to_what_a_condition_left_out_is_noticed():
    rendered = Rendered(**KEY, **OWN_STORES)
    with pytest.raises(Dangling):
        rendered.value({"Ref": "Database"})
    with pytest.raises(Dangling):
        rendered.value({"Fn::Sub": "x ${Cache.Endpoint.Address}"})


def test_every_function_gets_settings_that_the_code_accepts():
    for rendered in combinations():
        for name in functions(rendered):
            given = {**rendered.environment(name), "AWS_REGION": "eu-west-1"}  # Lambda's own
            Settings.read(given, with_ai=name.startswith("StreamChat"))


def test_no_value_of_a_secret_is_in_an_environment_or_an_output():
    secrets = {"OpenAiApiKey": "sk-1", "RedisUrl": "rediss://:pw@c", "MysqlUrl": "mysql://u:pw@d/c", "JwtSecret": "s3c"}
    rendered = Rendered(**{**TOKENS, "JwtJwksUrl": "", **secrets})
    shown = json.dumps([[rendered.environment(name) for name in functions(rendered)], rendered.outputs])
    assert not [value for value in secrets.values() if value in shown]
    assert all(TEMPLATE["Parameters"][name]["NoEcho"] is True for name in secrets)


class TestRules:
    def test_they_use_no_function_that_cloudformation_refuses_in_them(self):
        """Source: AWS CloudFormation User Guide, "Rule-specific intrinsic functions"."""
        allowed = {
            "Ref",
            *(f"Fn::{name}" for name in ("And", "Contains", "EachMemberEquals", "EachMemberIn", "Equals")),
        }
        allowed |= {f"Fn::{name}" for name in ("Not", "Or", "RefAll", "ValueOf", "ValueOfAll")}
        used = set(re.findall(r'"(Fn::\w+|Ref|Condition)": ', json.dumps(TEMPLATE["Rules"])))
        assert used <= allowed

    def test_an_open_url_with_header_identity_is_refused(self):
        (complaint,) = Rendered(**KEY, UrlAuth="NONE").broken_rules
        assert "anyone could be anyone" in complaint

    def test_an_open_url_with_tokens_is_accepted(self):
        assert Rendered(**KEY, **TOKENS).broken_rules == []

    def test_signed_requests_with_header_identity_are_the_default(self):
        rendered = Rendered(**KEY)
        assert rendered.broken_rules == []
        assert rendered.of("StreamChatFunction")["FunctionUrlConfig"]["AuthType"] == "AWS_IAM"

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"UrlAuth": "AWS_IAM"}, "bearer tokens"),
            ({"FrontDoorArn": FRONT_DOOR}, "could go past it"),
            ({"JwtIssuer": ""}, "JwtIssuer"),
            ({"JwtAudience": ""}, "JwtAudience"),
            ({"JwtSecret": "s"}, "either JwtJwksUrl or JwtSecret"),
            ({"OpenAiApiKey": ""}, "OpenAiApiKey is missing"),
            ({"VpcId": "vpc-1"}, "VpcId needs SubnetIds"),
            ({"SubnetIds": "subnet-1,subnet-2"}, "SubnetIds needs VpcId"),
            ({"SecurityGroupIds": "sg-1"}, "SecurityGroupIds needs VpcId"),
        ],
    )
    def test_what_would_not_work_is_refused(self, change, complaint):
        (found,) = Rendered(**{**KEY, **TOKENS, **change}).broken_rules
        assert complaint in found

    def test_another_ai_may_do_without_a_key(self):
        rendered = Rendered(OpenAiBaseUrl="https://ai.example/v1")
        assert rendered.broken_rules == []
        assert "own-key" not in json.dumps(rendered.of("StreamChatRole"))


class TestFrontDoor:
    BEHIND: ClassVar = {**TOKENS, "UrlAuth": "AWS_IAM", "JwtHeader": "X-Chat-Token", "FrontDoorArn": FRONT_DOOR}

    def test_tokens_go_with_signed_requests_in_a_header_of_their_own(self):
        rendered = Rendered(**KEY, **self.BEHIND)
        assert rendered.broken_rules == []
        for name in FUNCTIONS[:3]:
            assert rendered.environment(name)["CHAT_JWT_HEADER"] == "X-Chat-Token"

    def test_behind_it_nobody_is_believed_by_header(self):
        found = Rendered(**KEY, FrontDoorArn=FRONT_DOOR).broken_rules
        assert [text for text in found if "anyone could be anyone" in text]

    def test_that_distribution_and_no_other_may_ask_the_functions(self):
        rendered = Rendered(**KEY, **self.BEHIND)
        granted = [r["Properties"] for r in rendered.resources.values() if r["Type"] == "AWS::Lambda::Permission"]
        assert len(granted) == 8
        assert {(g["Principal"], g["SourceArn"]) for g in granted} == {("cloudfront.amazonaws.com", FRONT_DOOR)}
        assert not [r for r in Rendered(**KEY).resources.values() if r["Type"] == "AWS::Lambda::Permission"]


class TestStores:
    def test_by_default_both_are_made_in_a_network_that_is_made(self):
        names = Rendered(**KEY).names
        assert {"Database", "DatabaseInstance", "Cache", "Network", "Nat"} <= names

    def test_your_stores_on_the_internet_need_no_network(self):
        rendered = Rendered(**KEY, **OWN_STORES)
        assert not [n for n, r in rendered.resources.items() if r["Type"].startswith(("AWS::EC2", "AWS::RDS"))]
        assert not [n for n in functions(rendered) if "VpcConfig" in rendered.of(n)]

    def test_your_network_is_used_and_none_is_made(self):
        rendered = Rendered(**KEY, **OWN_NETWORK, SecurityGroupIds="sg-1,sg-2")
        assert {"Database", "Cache"} <= rendered.names
        assert "Network" not in rendered.names
        for name in functions(rendered):
            network = rendered.of(name)["VpcConfig"]
            assert network["SubnetIds"] == ["subnet-1", "subnet-2"]
            assert network["SecurityGroupIds"] == ["<FunctionSecurityGroup>", "sg-1", "sg-2"]

    def test_your_store_beside_one_that_is_made_stays_reachable(self):
        rendered = Rendered(**KEY, RedisUrl="redis://c:6380", RedisPort="6380")
        assert rendered.of("FunctionToYourRedis")["ToPort"] == "6380"
        assert "FunctionToYourMysql" not in rendered.names

    def test_the_urls_that_are_made_encrypt_and_verify(self):
        rendered = Rendered(**KEY)
        assert rendered.of("RedisUrlSecret")["SecretString"].startswith("rediss://chat:{{resolve:secretsmanager:")
        for name in ("MysqlUrlSecret", "MysqlAdminUrlSecret"):
            assert rendered.of(name)["SecretString"].endswith("/chat?ssl_ca=/opt/rds-ca.pem")
        assert rendered.of("DatabaseSettings")["Parameters"]["require_secure_transport"] == "ON"
        assert rendered.of("Database")["StorageEncrypted"] is True

    def test_stores_are_reached_by_the_functions_only(self):
        rendered = Rendered(**KEY)
        for name, port in {"DatabaseSecurityGroup": 3306, "CacheSecurityGroup": 6379}.items():
            (way,) = rendered.of(name)["SecurityGroupIngress"]
            assert (way["FromPort"], way["ToPort"]) == (port, port)
            assert way["SourceSecurityGroupId"] == "<FunctionSecurityGroup.GroupId>"
        assert "SecurityGroupIngress" not in rendered.of("FunctionSecurityGroup")
        assert rendered.of("DatabaseInstance")["PubliclyAccessible"] is False

    def test_the_database_sleeps_only_when_asked(self):
        scaling = "ServerlessV2ScalingConfiguration"
        assert "SecondsUntilAutoPause" not in Rendered(**KEY).of("Database")[scaling]
        assert Rendered(**KEY, DatabaseMinCapacity="0").of("Database")[scaling]["SecondsUntilAutoPause"] == 3600


class TestConnections:
    def test_the_functions_are_another_user_than_the_one_that_migrates(self):
        rendered = Rendered(**KEY)
        assert rendered.of("MysqlUrlSecret")["SecretString"].startswith("mysql://chat_functions:{{resolve:")
        assert rendered.of("MysqlAdminUrlSecret")["SecretString"].startswith("mysql://chat:{{resolve:")
        assert rendered.of("Database")["MasterUsername"] == "chat"
        assert rendered.environment("MigrationFunction")["FUNCTIONS_MYSQL_URL"] == "secretsmanager:<MysqlUrlSecret>"

    def test_your_database_may_name_both(self):
        one = Rendered(**KEY, MysqlUrl="ssm:/chat/mysql").environment("MigrationFunction")
        assert (one["MYSQL_URL"], one["FUNCTIONS_MYSQL_URL"]) == ("ssm:/chat/mysql", "")
        two = Rendered(**KEY, MysqlUrl="ssm:/chat/mysql", MysqlAdminUrl="ssm:/admin").environment("MigrationFunction")
        assert (two["MYSQL_URL"], two["FUNCTIONS_MYSQL_URL"]) == ("ssm:/admin", "ssm:/chat/mysql")

    def test_the_database_closes_what_is_idle_for_a_minute(self):
        rendered = Rendered(**KEY)
        assert rendered.of("DatabaseInstance")["DBParameterGroupName"] == "<DatabaseInstanceSettings>"
        assert rendered.of("DatabaseInstanceSettings")["Parameters"] == {"wait_timeout": "60"}

    def test_an_alarm_rings_before_it_takes_no_more(self):
        alarm = Rendered(**KEY).of("DatabaseConnectionsAlarm")
        assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/RDS", "DatabaseConnections")
        assert alarm["Dimensions"] == [{"Name": "DBClusterIdentifier", "Value": "<Database>"}]
        assert "DatabaseConnectionsAlarm" not in Rendered(**KEY, MysqlUrl="ssm:/chat/mysql").names

    def test_a_proxy_stands_between_functions_and_database_and_migrations_go_past_it(self):
        rendered = Rendered(**KEY, DatabaseProxy="true")
        url = rendered.of("MysqlUrlSecret")["SecretString"]
        assert url.endswith("@<Proxy.Endpoint>:3306/chat?ssl_ca=system")
        assert "@<Database.Endpoint.Address>" in rendered.of("MysqlAdminUrlSecret")["SecretString"]
        (login,) = rendered.of("Proxy")["Auth"]
        assert login["SecretArn"] == "<DatabaseFunctionsPassword>"
        assert rendered.of("Proxy")["RequireTLS"] is True
        assert rendered.of("FunctionToProxy")["DestinationSecurityGroupId"] == "<ProxySecurityGroup.GroupId>"
        assert rendered.of("DatabaseFromProxy")["SourceSecurityGroupId"] == "<ProxySecurityGroup.GroupId>"

    def test_an_iam_login_has_no_password_and_opens_one_user_of_one_database(self):
        rendered = Rendered(**KEY, DatabaseLogin="iam")
        url = rendered.of("MysqlUrlSecret")["SecretString"]
        assert url.startswith("mysql://chat_functions@<Database.Endpoint.Address>")
        assert url.endswith("?ssl_ca=/opt/rds-ca.pem&iam=true")
        assert rendered.of("Database")["EnableIAMDatabaseAuthentication"] is True
        assert "DatabaseFunctionsPassword" not in rendered.names
        _, login = rendered.of("ReadStores")["PolicyDocument"]["Statement"]
        assert login["Action"] == ["rds-db:connect"]
        assert login["Resource"].endswith(":dbuser:<Database.DBClusterResourceId>/chat_functions")

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"DatabaseProxy": "true", "DatabaseMinCapacity": "0"}, "would never sleep"),
            ({"DatabaseProxy": "true", "DatabaseLogin": "iam"}, "password of the functions"),
            ({"DatabaseProxy": "true", "MysqlUrl": "ssm:/m"}, "for the database that is made"),
            ({"DatabaseLogin": "iam", "MysqlUrl": "ssm:/m"}, "for the database that is made"),
            ({"MysqlAdminUrl": "ssm:/m"}, "MysqlAdminUrl needs MysqlUrl"),
        ],
    )
    def test_what_would_not_work_is_refused(self, change, complaint):
        (found,) = Rendered(**KEY, **change).broken_rules
        assert complaint in found


class TestBedrock:
    def rights(self, rendered, role="StreamChatRole"):
        """What a role may do to Bedrock, and where."""
        found = {}
        for policy in rendered.of(role).get("Policies", []):
            for statement in policy["PolicyDocument"]["Statement"]:
                found |= {action: statement["Resource"] for action in statement["Action"] if "bedrock" in action}
        return found

    @pytest.mark.parametrize("address", ["bedrock", "bedrock:eu-central-1", "bedrock-runtime"])
    def test_no_key_is_asked_for_and_none_is_kept(self, address):
        rendered = Rendered(OpenAiBaseUrl=address, **MODEL)
        assert rendered.broken_rules == []
        assert "OpenAiKeySecret" not in rendered.names
        assert rendered.environment("StreamChatFunction")["OPENAI_BASE_URL"] == address

    def test_a_model_of_bedrock_must_be_named(self):
        (complaint,) = Rendered(OpenAiBaseUrl="bedrock").broken_rules
        assert "one of Bedrock's" in complaint

    def test_the_role_of_stream_chat_may_ask_for_answers_in_its_region_and_nobody_else_may(self):
        rendered = Rendered(OpenAiBaseUrl="bedrock", **MODEL)
        assert self.rights(rendered) == {
            "bedrock-mantle:CreateInference": "arn:aws:bedrock-mantle:eu-west-1:111122223333:project/*",
            "bedrock-mantle:CallWithBearerToken": "*",
        }
        others = [n for n, r in rendered.resources.items() if r["Type"] == "AWS::IAM::Role" and n != "StreamChatRole"]
        assert not [name for name in others if self.rights(rendered, name)]
        elsewhere = self.rights(Rendered(OpenAiBaseUrl="bedrock:us-east-1", **MODEL))
        assert ":us-east-1:" in elsewhere["bedrock-mantle:CreateInference"]

    def test_by_the_runtime_endpoint_it_may_stream_models_and_nothing_else(self):
        rights = self.rights(Rendered(OpenAiBaseUrl="bedrock-runtime", **MODEL))
        assert rights == {
            "bedrock:InvokeModelWithResponseStream": [
                "arn:aws:bedrock:*::foundation-model/*",
                "arn:aws:bedrock:eu-west-1:111122223333:inference-profile/*",
            ]
        }

    @pytest.mark.parametrize(
        ("models", "actions"),
        [
            ("bedrock", {"bedrock-mantle:CreateInference", "bedrock-mantle:CallWithBearerToken"}),
            ("bedrock-runtime", {"bedrock:InvokeModelWithResponseStream"}),
        ],
    )
    def test_for_models_beside_another_ai_it_may_ask_in_every_region(self, models, actions):
        rights = self.rights(Rendered(**KEY, BedrockModels=models))
        assert set(rights) == actions
        assert all(":*:" in str(resource) or resource == "*" for resource in rights.values())
        assert len(self.rights(Rendered(**KEY, BedrockModels="both"))) == 3

    def test_traces_need_a_layer_and_go_where_they_are_told(self):
        (complaint,) = Rendered(**KEY, Tracing="otlp").broken_rules
        assert "TracingLayerArn" in complaint
        layer = "arn:aws:lambda:eu-west-1:111122223333:layer:otel:1"
        rendered = Rendered(**KEY, Tracing="otlp", TracingLayerArn=layer, OtlpEndpoint="https://traces.example")
        assert rendered.of("StreamChatFunction")["Layers"] == ["<StreamChatLayer>", layer]
        assert rendered.environment("StreamChatFunction")["OTEL_EXPORTER_OTLP_ENDPOINT"] == "https://traces.example"
        assert Rendered(**KEY).environment("StreamChatFunction")["CHAT_TRACING"] == "off"

    def test_what_models_refer_to_it_may_read_and_nobody_else_may(self):
        secret = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:groq-AbCdEf"
        rendered = Rendered(**KEY, ModelSecrets=secret, AiBody='{"temperature": 0}')
        told = [name for name, resource in rendered.resources.items() if secret in json.dumps(resource)]
        assert told == ["StreamChatRole"]
        assert rendered.environment("StreamChatFunction")["CHAT_AI_BODY"] == '{"temperature": 0}'

    def test_with_another_ai_it_may_ask_bedrock_nothing(self):
        assert self.rights(Rendered(**KEY)) == {}

    def test_in_a_network_that_is_made_it_has_an_endpoint_of_its_own(self):
        for address, name in {"bedrock": "bedrock-mantle", "bedrock-runtime": "bedrock-runtime"}.items():
            rendered = Rendered(OpenAiBaseUrl=address, **MODEL)
            endpoint = rendered.of("BedrockEndpoint")
            assert endpoint["ServiceName"] == f"com.amazonaws.eu-west-1.{name}"
            assert endpoint["PrivateDnsEnabled"] is True, "the code asks the address that it would ask anyway"
            (way,) = rendered.of("BedrockSecurityGroup")["SecurityGroupIngress"]
            assert way["SourceSecurityGroupId"] == "<FunctionSecurityGroup.GroupId>"

    @pytest.mark.parametrize("more", [OWN_NETWORK, OWN_STORES, {"OpenAiBaseUrl": "bedrock:us-east-1"}])
    def test_otherwise_it_has_none(self, more):
        assert "BedrockEndpoint" not in Rendered(**{"OpenAiBaseUrl": "bedrock", **MODEL, **more}).names


class TestPermissions:
    def readable(self, rendered, role):
        found = []
        for policy in rendered.of(role).get("Policies", []):
            for statement in policy["PolicyDocument"]["Statement"]:
                if "secretsmanager:GetSecretValue" in statement["Action"]:
                    places = statement["Resource"]
                    found += places if isinstance(places, list) else [places]
        if "<ReadStores>" in rendered.of(role).get("ManagedPolicyArns", []):
            statement, *_ = rendered.of("ReadStores")["PolicyDocument"]["Statement"]
            found += statement["Resource"]
        return found

    def test_only_stream_chat_reads_the_key_of_the_ai(self):
        rendered = Rendered(**KEY)
        readers = [r for r, x in rendered.resources.items() if x["Type"] == "AWS::IAM::Role"]
        assert [r for r in readers if "<OpenAiKeySecret>" in self.readable(rendered, r)] == ["StreamChatRole"]

    def test_migrations_read_nothing_but_where_the_database_is(self):
        assert self.readable(Rendered(**KEY), "MigrationRole") == ["<MysqlUrlSecret>", "<MysqlAdminUrlSecret>"]
        assert self.readable(Rendered(**KEY, MysqlUrl="ssm:/chat/mysql"), "MigrationRole") == [
            "arn:aws:ssm:eu-west-1:111122223333:parameter/chat/mysql"
        ]

    def test_only_migrations_read_as_whom_the_schema_is_changed(self):
        for rendered in (Rendered(**KEY), Rendered(**KEY, MysqlUrl="mysql://u@d/c", MysqlAdminUrl="mysql://a@d/c")):
            roles = [r for r, x in rendered.resources.items() if x["Type"] == "AWS::IAM::Role"]
            assert [r for r in roles if "<MysqlAdminUrlSecret>" in self.readable(rendered, r)] == ["MigrationRole"]
            for name in FUNCTIONS:
                environment = rendered.environment(name)
                is_admin = name == "MigrationFunction"
                assert ("<MysqlAdminUrlSecret>" in environment["MYSQL_URL"]) is is_admin
                assert ("FUNCTIONS_MYSQL_URL" in environment) is is_admin

    @pytest.mark.parametrize(
        ("setting", "place"),
        [
            ("secretsmanager:chat/ai", "secretsmanager:eu-west-1:111122223333:secret:chat/ai-??????"),
            ("secretsmanager:chat/ai#key", "secretsmanager:eu-west-1:111122223333:secret:chat/ai-??????"),
            ("ssm:/chat/ai", "ssm:eu-west-1:111122223333:parameter/chat/ai"),
            ("ssm:ai", "ssm:eu-west-1:111122223333:parameter/ai"),
        ],
    )
    def test_a_reference_opens_exactly_what_it_names(self, setting, place):
        rendered = Rendered(OpenAiApiKey=setting)
        assert f"arn:aws:{place}" in self.readable(rendered, "StreamChatRole")
        assert rendered.environment("StreamChatFunction")["OPENAI_API_KEY"] == setting

    def test_nothing_may_do_everything(self):
        for rendered in combinations():
            for name, resource in rendered.resources.items():
                if not resource["Type"].startswith("AWS::IAM::"):
                    continue
                for statement in re.findall(r'"Action": (\[[^]]*\]|"[^"]*")', json.dumps(resource)):
                    assert "*" not in statement, name
                text = json.dumps(resource).replace(BEARER_TOKEN, "")
                assert '"Resource": "*"' not in text, name


class TestFunctions:
    def test_each_has_its_own_role_log_and_layer(self):
        rendered = Rendered(**KEY)
        for kind in ("Role", "Layers"):
            assert len({str(rendered.of(name)[kind]) for name in FUNCTIONS}) == len(FUNCTIONS)
        assert len({rendered.of(name)["LoggingConfig"]["LogGroup"] for name in FUNCTIONS}) == len(FUNCTIONS)

    def test_each_waits_for_the_migration(self):
        for name, resource in functions(Rendered(**KEY)).items():
            assert resource.get("DependsOn") == (None if name == "MigrationFunction" else "Migration")

    def test_the_migration_waits_for_the_database_and_the_way_to_it(self):
        properties = Rendered(**KEY).of("Migration")
        assert properties["Database"] == "<DatabaseInstance>"
        assert properties["WayToDatabase"] == "<FunctionToDatabase>"
        assert "<PrivateRouteOut>" in properties["WayOut"]
        assert properties["Code"] == "<MigrationFunction.Version>"

    def test_only_stream_chat_streams(self):
        rendered = Rendered(**KEY)
        modes = {n: rendered.of(n)["FunctionUrlConfig"]["InvokeMode"] for n in FUNCTIONS[:4]}
        assert modes == {
            "CreateChatFunction": "BUFFERED",
            "CancelStreamFunction": "BUFFERED",
            "ManageChatsFunction": "BUFFERED",
            "StreamChatFunction": "RESPONSE_STREAM",
        }
        wrapper = rendered.environment("StreamChatFunction")["AWS_LAMBDA_EXEC_WRAPPER"]
        assert wrapper == "/opt/python/lambda_stream/bootstrap"
        assert "AWS_LAMBDA_EXEC_WRAPPER" not in rendered.environment("CreateChatFunction")

    def test_lambda_drops_no_line_that_carries_metrics_whatever_the_log_level(self):
        for level in TEMPLATE["Parameters"]["LogLevel"]["AllowedValues"]:
            for instances in ("true", "false"):
                rendered = Rendered(**KEY, LogLevel=level, StreamOnInstances=instances)
                for name in functions(rendered):
                    logging = rendered.of(name)["LoggingConfig"]
                    assert (logging["LogFormat"], logging["ApplicationLogLevel"]) == ("JSON", "INFO"), name
                    platform = {"AWS_LAMBDA_LOG_LEVEL": logging["ApplicationLogLevel"]}
                    assert Settings.read(rendered.environment(name) | platform).telemetry.level == level

    def test_logs_name_users_by_one_pseudonym_everywhere_without_a_setting(self):
        rendered = Rendered(**KEY)
        for name in FUNCTIONS[:3]:
            assert rendered.environment(name)["CHAT_USER_HASH_KEY"] == "secretsmanager:<UserHashKey>"
        assert rendered.of("UserHashKey")["GenerateSecretString"]["PasswordLength"] >= 32
        (statement,) = rendered.of("ReadStores")["PolicyDocument"]["Statement"]
        assert "<UserHashKey>" in statement["Resource"]

    def test_what_a_new_account_refuses_is_left_out_by_default(self):
        properties = Rendered(**KEY).of("StreamChatFunction")
        assert "ReservedConcurrentExecutions" not in properties
        assert "ProvisionedConcurrencyConfig" not in properties
        asked = Rendered(**KEY, StreamConcurrency="10", StreamProvisionedConcurrency="2").of("StreamChatFunction")
        assert asked["ReservedConcurrentExecutions"] == "10"
        assert asked["ProvisionedConcurrencyConfig"] == {"ProvisionedConcurrentExecutions": "2"}

    def test_cancels_and_new_chats_have_executions_of_their_own_when_asked(self):
        for parameter, name in (
            ("CreateConcurrency", "CreateChatFunction"),
            ("CancelConcurrency", "CancelStreamFunction"),
        ):
            assert "ReservedConcurrentExecutions" not in Rendered(**KEY).of(name)
            asked = Rendered(**KEY, **{parameter: "5"})
            assert asked.of(name)["ReservedConcurrentExecutions"] == "5"
            assert "ReservedConcurrentExecutions" not in asked.of("StreamChatFunction")

    def test_instances_take_the_place_of_the_function_on_demand(self):
        rendered = Rendered(**KEY, StreamOnInstances="true")
        assert "StreamChatFunction" not in rendered.names
        properties = rendered.of("StreamChatInstancesFunction")
        assert "VpcConfig" not in properties, "the capacity provider has the network"
        assert rendered.outputs["StreamChatUrl"]["Value"] == "<StreamChatInstancesFunctionUrl.FunctionUrl>"
        assert properties["LoggingConfig"]["LogFormat"] == "JSON"
        ondemand = Rendered(**KEY)
        same = ("CodeUri", "Handler", "Layers", "Timeout", "Role")
        assert [properties[n] for n in same] == [ondemand.of("StreamChatFunction")[n] for n in same]
        assert rendered.environment("StreamChatInstancesFunction") == ondemand.environment("StreamChatFunction")

    def test_alarms_that_take_a_version_back_are_of_that_function(self):
        rendered = Rendered(**KEY)
        for name in FUNCTIONS[:3]:
            alarms = rendered.of(name)["DeploymentPreference"]["Alarms"]
            assert f"<{name.removesuffix('Function')}ErrorsAlarm>" in alarms
            _, *metrics = rendered.of(alarms[0].strip("<>"))["Metrics"]
            for metric in metrics:
                dimensions = metric["MetricStat"]["Metric"]["Dimensions"]
                assert {"Name": "Resource", "Value": f"<{name}>:live"} in dimensions

    def test_what_takes_a_version_back_is_a_rate_and_more_than_one_request(self):
        rendered = Rendered(**KEY)
        for name in FUNCTIONS[:3]:
            for alarm in rendered.of(name)["DeploymentPreference"]["Alarms"]:
                rate, many, all_of_them = rendered.of(alarm.strip("<>"))["Metrics"]
                assert f"IF({many['Id']} >= " in rate["Expression"]
                assert f"100 * {many['Id']} / " in rate["Expression"]
                assert all_of_them["Id"] in rate["Expression"]

    def test_cross_origin_answers_come_from_the_url_only_for_named_origins(self):
        assert "Cors" not in Rendered(**KEY).of("StreamChatFunction")["FunctionUrlConfig"]
        cors = Rendered(**KEY, AllowedOrigins="https://a,https://b").of("StreamChatFunction")["FunctionUrlConfig"][
            "Cors"
        ]
        assert cors["AllowOrigins"] == ["https://a", "https://b"]

    @pytest.mark.parametrize("name", [*FUNCTIONS[:3], "ManageChatsFunction"])
    def test_a_function_url_lets_pages_send_and_read_what_our_own_middleware_does(self, name):
        cors = Rendered(**KEY, **TOKENS, AllowedOrigins="https://a").of(name)["FunctionUrlConfig"]["Cors"]
        assert sorted(cors["AllowHeaders"]) == sorted(map(str.lower, REQUEST_HEADERS))
        assert sorted(cors["ExposeHeaders"]) == sorted(map(str.lower, RESPONSE_HEADERS))
        assert "OPTIONS" not in cors["AllowMethods"], "Lambda refuses it as a method"


def test_the_dashboard_is_json_in_every_form():
    for instances in ("true", "false"):
        rendered = Rendered(**KEY, StreamOnInstances=instances)
        assert len(json.loads(rendered.of("ChatDashboard")["DashboardBody"])["widgets"]) == 12


def metrics_of(alarm):
    """What an alarm reads: one metric, or those of an expression."""
    return [entry["MetricStat"]["Metric"] for entry in alarm.get("Metrics", []) if "MetricStat" in entry] or [alarm]


def watched(rendered):
    """The chat's own metrics on the dashboard and in alarms, with their service."""
    body = json.loads(rendered.of("ChatDashboard")["DashboardBody"])
    rows = [row for widget in body["widgets"] for row in widget["properties"]["metrics"] if row[0] == "aiva-chat"]
    assert {row[2] for row in rows} == {metric_names.SERVICE}
    dashboard = {(row[1], row[3]) for row in rows}
    alarms = set()
    for resource in rendered.resources.values():
        if resource["Type"] == "AWS::CloudWatch::Alarm":
            for metric in metrics_of(resource["Properties"]):
                if metric["Namespace"] == "aiva-chat":
                    service, *_ = metric["Dimensions"]
                    assert service["Name"] == metric_names.SERVICE
                    alarms.add((metric["MetricName"], service["Value"]))
    return dashboard, alarms


def test_dashboard_and_alarms_watch_what_the_code_emits():
    rendered = Rendered(**KEY)
    dashboard, alarms = watched(rendered)
    emitted = {metric.name for metric in metric_names.METRICS}
    assert {name for name, _ in dashboard} == emitted
    assert (
        {name for name, _ in alarms}
        == {*("FirstDelta", "CancelLatency", "Fallback", "AnswerFailed", "AnswerStarted")}
        <= emitted
    )
    services = {rendered.environment(name)["POWERTOOLS_SERVICE_NAME"] for name in functions(rendered)}
    assert {service for _, service in dashboard | alarms} <= services
    assert {rendered.environment(name)["POWERTOOLS_METRICS_NAMESPACE"] for name in functions(rendered)} == {"aiva-chat"}


def test_short_forms_become_long_ones():
    text = "a: !GetAtt X.Y.Z\nb: !Sub ['${Q}', {Q: !Ref R}]\nc: !Condition D\n"
    assert load(text) == {
        "a": {"Fn::GetAtt": ["X", "Y.Z"]},
        "b": {"Fn::Sub": ["${Q}", {"Q": {"Ref": "R"}}]},
        "c": {"Condition": "D"},
    }


class TestSnapStart:
    RESTORED = ("CreateChatFunction", "CancelStreamFunction", "ManageChatsFunction", "StreamChatFunction")

    def test_it_is_off_unless_asked_for(self):
        rendered = Rendered(**KEY)
        assert not [name for name in functions(rendered) if rendered.of(name).get("SnapStart")]

    def test_it_is_on_for_all_functions_that_a_person_waits_for(self):
        rendered = Rendered(**KEY, SnapStart="true")
        assert rendered.broken_rules == []
        found = {name for name in functions(rendered) if rendered.of(name).get("SnapStart")}
        assert found == set(self.RESTORED)
        assert {rendered.of(name)["SnapStart"]["ApplyOn"] for name in self.RESTORED} == {"PublishedVersions"}

    def test_it_is_off_where_lambda_has_none(self):
        rendered = Rendered(**KEY, SnapStart="true", StreamOnInstances="true")
        assert "SnapStart" not in rendered.of("StreamChatInstancesFunction")
        (complaint,) = Rendered(**KEY, SnapStart="true", StreamProvisionedConcurrency="1").broken_rules
        assert "StreamProvisionedConcurrency" in complaint
