"""What `sam local invoke` needs: events, environment, containers and their network fit one another and the code."""

import json
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from chat.settings import Settings
from tests.kit.cloudformation import Rendered

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
CONFIG = tomllib.loads((ROOT / "samconfig.toml").read_text())
FUNCTIONS = {"create_chat": "CreateChatFunction", "stream_chat": "StreamChatFunction"} | {
    "cancel_stream": "CancelStreamFunction",
    "manage_chats": "ManageChatsFunction",
    "migrate": "MigrationFunction",
}


def event(name):
    return json.loads((ROOT / "events" / f"{name}.json").read_text())


@pytest.mark.parametrize("name", ["create_chat", "stream_chat", "cancel_stream", "manage_chats", "health"])
def test_events_are_whole_function_url_events(name):
    real = json.loads((ROOT / "tests" / "events" / "stream_chat.json").read_text())
    found = event(name)
    assert set(found) - {"body"} == set(real) - {"body"}
    assert set(found["requestContext"]) == set(real["requestContext"])
    assert set(found["requestContext"]["http"]) == set(real["requestContext"]["http"])
    assert found["rawPath"] == found["requestContext"]["http"]["path"]


def test_stream_and_cancel_speak_of_the_same_chat():
    assert event("stream_chat")["rawPath"].rsplit("/", 1)[0] == event("cancel_stream")["rawPath"].rsplit("/", 1)[0]


def test_the_environment_is_complete_and_points_at_the_containers():
    environ = json.loads((ROOT / CONFIG["default"]["local_invoke"]["parameters"]["env_vars"]).read_text())["Parameters"]
    settings = Settings.read(environ, with_ai=True)
    mysql, redis = urlsplit(settings.mysql_url.reveal()), urlsplit(settings.redis_url.reveal())
    assert {mysql.hostname, redis.hostname} == set(COMPOSE["services"])
    account = COMPOSE["services"]["mysql"]["environment"]
    named = (account["MYSQL_USER"], account["MYSQL_PASSWORD"], account["MYSQL_DATABASE"])
    assert (mysql.username, mysql.password, mysql.path.strip("/")) == named
    declared = set().union(*(Rendered(OpenAiApiKey="sk").environment(name) for name in FUNCTIONS.values()))
    assert set(environ) <= declared, "SAM passes on only what the template declares"
    resolved = [n for n, v in Rendered(OpenAiApiKey="sk").environment("StreamChatFunction").items() if "secretsm" in v]
    assert set(resolved) <= set(environ), "what would need AWS is given here"


def test_staging_can_be_deployed_with_what_is_written_down_of_it_and_no_secret_is():
    """What is given on the command line would replace all of it: the key has to be there too."""
    written = CONFIG["staging"]["deploy"]["parameters"]["parameter_overrides"]
    rendered = Rendered(**dict(pair.split("=", 1) for pair in written.split()))
    assert rendered.broken_rules == []
    assert rendered.parameters["OpenAiApiKey"].startswith("ssm:")


def test_functions_and_stores_share_a_network():
    assert CONFIG["default"]["local_invoke"]["parameters"]["docker_network"] == COMPOSE["networks"]["default"]["name"]


def test_containers_are_reachable_from_this_machine_only_and_say_when_they_are_ready():
    for service in COMPOSE["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["healthcheck"]["test"]
        assert ":" in service["image"], "a version"


@pytest.mark.parametrize("stage", ["default", "staging"])
def test_each_stage_builds_in_place_and_has_a_stack_of_its_own(stage):
    assert CONFIG[stage]["build"]["parameters"]["build_in_source"] is True
    names = [CONFIG[name]["global"]["parameters"]["stack_name"] for name in ("default", "staging")]
    assert len(set(names)) == 2
    for name in names:
        assert name == name.lower(), "ElastiCache takes no capitals"
