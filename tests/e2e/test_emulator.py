"""The whole template on an emulator of AWS: made, used, changed, delivered to and deleted, with the built artifacts, on
real stores. tests/kit/emulator.py lists what the emulator cannot hold."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.build import archive, build
from deploy.deliver import deliver
from deploy.packages import Target
from deploy.stack import NotDelivered, Stack
from deploy.units import UNITS
from tests.e2e.test_built_artifacts import MACHINE
from tests.kit.cloudformation import TEMPLATE
from tests.kit.databases import fresh_mysql, mysql_ask
from tests.kit.emulator import BIN, BUCKET, holdable, running_emulator
from tests.kit.redis_servers import given

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("emulator"), pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
ARTIFACTS = {
    "StreamChatLayer" if name.endswith("Layer") else name.replace("Instances", "")
    for unit in UNITS
    for name, _ in unit.code
}
FUNCTIONS = tuple(f"{unit.prefix}Function" for unit in UNITS)


class World:
    """One stack on the emulator. The tests of this module follow one another, as a stack's days do."""

    def __init__(self, emulator, folder, mysql_url):
        self.emulator, self.folder, self.mysql_url = emulator, folder, mysql_url
        self.parameters = {"OpenAiApiKey": "sk-1", "MysqlUrl": mysql_url, "RedisUrl": given("REDIS_URL")}
        self.template = self.packaged("first")
        self.delivered = []

    def packaged(self, mark, *changed):
        """The template as `sam package` leaves it; the code of what is `changed` lies elsewhere."""
        template = json.loads(json.dumps(TEMPLATE))
        for unit in UNITS:
            for name, place in unit.code:
                artifact = "StreamChatLayer" if name.endswith("Layer") else name.replace("Instances", "")
                key = f"{mark if name in changed else 'first'}/{artifact}.zip"
                body = (self.folder / f"{artifact}.zip").read_bytes()
                template["Resources"][name]["Properties"][place] = self.emulator.put(key, body)
        return template

    def live(self):
        return {name: self.emulator.live(name) for name in FUNCTIONS}

    def change(self, **parameters):
        """Change parameters and return the functions whose alias has moved."""
        before = self.live()
        self.parameters |= parameters
        assert self.emulator.update(self.template, self.parameters) == "UPDATE_COMPLETE", self.emulator.failures()
        return {name for name, version in self.live().items() if version != before[name]}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    if sys.platform != "linux":
        pytest.skip("the artifacts are for Linux")
    given("REDIS_URL")
    folder = tmp_path_factory.mktemp("emulator")
    with fresh_mysql(given("MYSQL_URL")) as url, running_emulator(folder) as emulator:
        version = [str(BIN / "python"), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        python = subprocess.run(version, capture_output=True, text=True, check=True).stdout.strip()
        for name in ARTIFACTS:
            build(name, folder / name, Target(MACHINE, python), None)
            archive(folder / name, folder / f"{name}.zip")
        world = World(emulator, folder, url)
        assert emulator.create(world.template, world.parameters) == "CREATE_COMPLETE", emulator.failures()
        yield world


def event(name):
    return json.loads((ROOT / "events" / f"{name}.json").read_text())


def test_the_migration_ran_before_the_functions_were_made(world):
    tables = {name for (name,) in mysql_ask(world.mysql_url, "SHOW TABLES")}
    assert {"alembic_version", "chats", "messages"} <= tables
    assert world.live() == dict.fromkeys(FUNCTIONS, "1")


def test_what_is_live_works_on_the_stores_by_the_secrets_that_the_stack_made(world):
    made = world.emulator.invoke("CreateChatFunction", event("create_chat"))
    assert made["statusCode"] == 201, made
    chat = json.loads(made["body"])["chatId"]
    assert mysql_ask(world.mysql_url, "SELECT id FROM chats") == [(chat,)]
    cancelled = world.emulator.invoke("CancelStreamFunction", event("cancel_stream"))
    assert (cancelled["statusCode"], json.loads(cancelled["body"])["code"]) == (404, "chat_not_found")
    for function in ("CreateChatFunction", "CancelStreamFunction"):
        assert json.loads(world.emulator.invoke(function, event("health"))["body"])["status"] == "ok"


@pytest.mark.parametrize(
    "change",
    [
        *({"OpenAiBaseUrl": "https://ai.example/v1"}, {"OpenAiApiKey": "sk-2"}),
        *({"StreamMemory": "1024"}, {"StreamTimeout": "120"}),
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_parameter_of_stream_chat_moves_its_alias_and_no_other(world, change):
    assert world.change(**change) == {"StreamChatFunction"}


@pytest.mark.parametrize(
    "change",
    [
        {"MessagesPerMinute": "7"},
        *({"UrlAuth": "NONE", "ChatAuth": "jwt", "JwtIssuer": "i", "JwtAudience": "a", "JwtSecret": "s" * 32},),
        {"JwtSecret": "t" * 32},
    ],
    ids=["MessagesPerMinute", "ChatAuth", "JwtSecret"],
)
def test_a_parameter_that_all_read_moves_every_alias(world, change):
    assert world.change(**change) == set(FUNCTIONS)


def test_a_parameter_that_none_reads_moves_none(world):
    assert world.change(AllowedOrigins="https://chat.example.com") == set()


def test_tokens_hold_for_what_is_live_at_once(world):
    """What issue 19 found: the URL was open while what was live still believed X-User-Id."""
    refused = world.emulator.invoke("CreateChatFunction", event("create_chat"))
    assert refused["statusCode"] == 401


def stack(world):
    emulator = world.emulator
    return Stack(emulator.stack, BUCKET, emulator.client("cloudformation"), emulator.client("s3"), lambda _: None)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_one_function_is_delivered_through_a_change_set_and_the_others_stay(world, unit):
    before = world.live()
    world.delivered.append(f"{unit.prefix}Function")
    wanted = holdable(world.packaged("second", *world.delivered), world.parameters)
    deliver(stack(world), unit.name, wanted, {})
    moved = {name for name, version in world.live().items() if version != before[name]}
    assert moved == {f"{unit.prefix}Function"}
    again = []
    deliver(stack(world), unit.name, wanted, {}, again.append)
    assert again == [f"{unit.name}: nothing to change"]


def test_what_holds_an_address_is_not_replaced(world):
    wanted = holdable(world.template, world.parameters)
    del wanted["Resources"]["CreateChatLogGroup"]
    wanted["Resources"]["CreateChatFunction"]["Properties"].pop("LoggingConfig")
    wanted["Resources"]["CreateChatRole"]["Properties"].pop("Policies")
    with pytest.raises(NotDelivered, match=r"CreateChatLogGroup \(AWS::Logs::LogGroup\): is lost: Remove"):
        deliver(stack(world), "stack", wanted, {})


def test_the_stack_goes_away_and_the_database_stays(world):
    world.emulator.delete()
    assert mysql_ask(world.mysql_url, "SELECT count(*) FROM chats") == [(1,)]
