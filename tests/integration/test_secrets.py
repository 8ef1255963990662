"""Secrets against moto's Secrets Manager and Parameter Store: real boto3, real Powertools."""

import json
import subprocess
import sys
import traceback

import boto3
import pytest
from moto import mock_aws

from chat.adapters.aws.parameters import Parameters
from chat.adapters.aws.secrets import RENEW_SECONDS, Secrets, parse_reference
from chat.settings import Settings, SettingsError

PASSWORD = "s3cr3t-pass-word"
URL = f"mysql://chat:{PASSWORD}@db:3306/chat"


@pytest.fixture
def aws(monkeypatch):
    for name, value in {
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
    }.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        yield


def secret(name, text):
    boto3.client("secretsmanager").create_secret(Name=name, SecretString=text)


def change(name, text):
    boto3.client("secretsmanager").put_secret_value(SecretId=name, SecretString=text)


def test_a_whole_secret_becomes_the_value(aws):
    secret("chat/mysql", URL)
    assert Secrets({"MYSQL_URL": "secretsmanager:chat/mysql"}).environ()["MYSQL_URL"] == URL


def test_an_arn_names_a_secret_too(aws):
    arn = boto3.client("secretsmanager").create_secret(Name="chat/key", SecretString="sk-1")["ARN"]
    assert Secrets({"OPENAI_API_KEY": f"secretsmanager:{arn}"}).environ()["OPENAI_API_KEY"] == "sk-1"


def test_a_field_of_a_json_secret_becomes_the_value(aws):
    secret("chat/all", json.dumps({"mysql": URL, "redis": "redis://cache"}))
    environ = {"MYSQL_URL": "secretsmanager:chat/all#mysql", "REDIS_URL": "secretsmanager:chat/all#redis"}
    settings = Settings.read(Secrets(environ).environ())
    assert settings.mysql_url.reveal() == URL
    assert settings.redis_url.reveal() == "redis://cache"


@pytest.mark.parametrize("name", ["/chat/mysql", "chat-mysql"])
def test_a_parameter_is_decrypted(aws, name):
    boto3.client("ssm").put_parameter(Name=name, Value=URL, Type="SecureString")
    assert Secrets({"MYSQL_URL": f"ssm:{name}"}).environ()["MYSQL_URL"] == URL


def test_other_settings_and_plain_values_stay_as_they_are(aws):
    secret("chat/mysql", URL)
    environ = {"MYSQL_URL": "secretsmanager:chat/mysql", "REDIS_URL": "redis://cache", "OPENAI_MODEL": "ssm:no-secret"}
    assert Secrets(environ).environ() == {**environ, "MYSQL_URL": URL}


def test_a_value_is_read_once_and_again_only_on_demand(aws):
    secret("chat/mysql", URL)
    secrets = Secrets({"MYSQL_URL": "secretsmanager:chat/mysql"})
    assert secrets.read("MYSQL_URL") == URL
    change("chat/mysql", "mysql://rotated@db/chat")
    assert secrets.read("MYSQL_URL") == URL, "kept for a while"
    assert secrets.renew("MYSQL_URL") == "mysql://rotated@db/chat", "a refused login reads again"
    assert secrets.read("MYSQL_URL") == "mysql://rotated@db/chat", "and what was read is kept"


def test_refused_logins_in_a_row_do_not_read_in_a_row(aws):
    now = [1_000_000.0]
    secret("chat/mysql", URL)
    secrets = Secrets({"MYSQL_URL": "secretsmanager:chat/mysql"}, clock=lambda: now[0])
    secrets.renew("MYSQL_URL")
    change("chat/mysql", "mysql://rotated@db/chat")
    assert secrets.renew("MYSQL_URL") == URL
    now[0] += RENEW_SECONDS
    assert secrets.renew("MYSQL_URL") == "mysql://rotated@db/chat"


def test_a_value_is_read_again_when_it_is_too_old(aws):
    secret("chat/mysql", URL)
    secrets = Secrets({"MYSQL_URL": "secretsmanager:chat/mysql"}, Parameters(max_age_seconds=0))
    assert secrets.read("MYSQL_URL") == URL
    change("chat/mysql", "mysql://rotated@db/chat")
    assert secrets.read("MYSQL_URL") == "mysql://rotated@db/chat"


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("secretsmanager:chat/absent", "ResourceNotFoundException"),
        ("ssm:/chat/absent", "ParameterNotFound"),
        ("secretsmanager:chat/json#absent", "no JSON object with a text in this field"),
        ("secretsmanager:chat/json#number", "no JSON object with a text in this field"),
        ("secretsmanager:chat/list#mysql", "no JSON object with a text in this field"),
        ("secretsmanager:chat/text#mysql", "the secret is no JSON"),
        ("secretsmanager:chat/binary", "it is no text"),
        ("secretsmanager:", "it must be"),
        ("secretsmanager:#field", "it must be"),
        ("secretsmanager:chat/text#", "it must be"),
        ("ssm:", "it must be"),
    ],
)
def test_what_cannot_be_read_is_named_and_nothing_of_it_is_told(aws, setting, reason):
    secret("chat/json", json.dumps({"mysql": URL, "number": 1}))
    secret("chat/list", json.dumps([URL]))
    secret("chat/text", URL)
    boto3.client("secretsmanager").create_secret(Name="chat/binary", SecretBinary=URL.encode())
    with pytest.raises(SettingsError) as raised:
        Secrets({"MYSQL_URL": setting}).environ()
    assert str(raised.value).startswith(f"MYSQL_URL ({setting}) cannot be read: ")
    assert reason in str(raised.value)
    assert PASSWORD not in "".join(traceback.format_exception(raised.value))
    assert raised.value.__cause__ is None


def test_nothing_shows_a_value(aws, caplog):
    caplog.set_level("DEBUG", "chat")
    secret("chat/mysql", URL)
    secrets = Secrets({"MYSQL_URL": "secretsmanager:chat/mysql", "REDIS_URL": f"redis://:{PASSWORD}@cache"})
    settings = Settings.read(secrets.environ())
    assert PASSWORD not in repr(secrets) + repr(settings) + str(settings.mysql_url) + caplog.text


def test_credentials_that_are_refused_are_a_short_reason(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    with pytest.raises(SettingsError, match=r"cannot be read: NoCredentialsError$"):
        Secrets({"MYSQL_URL": "secretsmanager:chat/mysql"}).environ()


def test_without_a_reference_boto3_is_not_imported():
    program = (
        "import os, sys; from chat.adapters.aws.secrets import Secrets; "
        "print(Secrets({'MYSQL_URL': 'sqlite:///x'}).environ()); "
        "sys.exit('boto3' in sys.modules or 'aws_lambda_powertools' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": "layers/common"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_three_forms_are_taken_apart():
    assert parse_reference("secretsmanager:a/b#c") == ("secretsmanager", "a/b", "c")
    assert parse_reference("secretsmanager:arn:aws:x:y#c") == ("secretsmanager", "arn:aws:x:y", "c")
    assert parse_reference("ssm:/a#b") == ("ssm", "/a#b", None)


def test_without_boto3_what_to_install_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "chat.adapters.aws.parameters", raising=False)
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.setitem(sys.modules, "botocore.config", None)
    with pytest.raises(SettingsError, match=r"MYSQL_URL \(ssm:x\) needs boto3.*make aws"):
        Secrets({"MYSQL_URL": "ssm:x"}).environ()
