"""The function that migrates: what CloudFormation hears of it, and what an invocation by hand does."""

import json
import subprocess
import sys

import pytest
from sqlalchemy import create_engine, text

from migrations import app
from migrations.app import answer_cloudformation, handler
from migrations.runner import MigrationError, NewerSchema, head
from tests.kit.custom_resources import Heard


def request(kind="Create", **more):
    names = {"StackId": "stack", "RequestId": "request", "LogicalResourceId": "Migration"}
    return {"RequestType": kind, "ResponseURL": "http://nowhere.invalid/x?signed", **names, **more}


class Outcome:
    """Hears what is sent to CloudFormation."""

    def __init__(self):
        self.sent = []

    def __call__(self, url, body):
        self.sent.append((url, json.loads(body)))

    @property
    def response(self):
        ((_, body),) = self.sent
        return body


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_success_is_reported_with_the_ids_that_cloudformation_gave(kind):
    outcome, asked = Outcome(), []
    answer_cloudformation(request(kind), asked.append, outcome)
    assert asked == [kind]
    ((url, body),) = outcome.sent
    assert url == "http://nowhere.invalid/x?signed"
    assert body["Status"] == "SUCCESS"
    assert (body["StackId"], body["RequestId"], body["LogicalResourceId"]) == ("stack", "request", "Migration")


def test_the_physical_id_never_changes_or_cloudformation_would_delete_the_old_one():
    outcome = Outcome()
    answer_cloudformation(request("Update", PhysicalResourceId="given"), lambda _: None, outcome)
    assert outcome.response["PhysicalResourceId"] == "given"


def test_deleting_leaves_the_database_alone():
    outcome, asked = Outcome(), []
    answer_cloudformation(request("Delete"), asked.append, outcome)
    assert (asked, outcome.response["Status"]) == ([], "SUCCESS")


def failing(error):
    def upgrade(_):
        raise error

    return upgrade


def test_a_failure_of_ours_is_reported_with_its_reason():
    outcome = Outcome()
    answer_cloudformation(request(), failing(MigrationError("another migration is running")), outcome)
    assert (outcome.response["Status"], outcome.response["Reason"]) == ("FAILED", "another migration is running")


def test_another_failure_is_reported_without_its_text_which_may_hold_the_address():
    outcome = Outcome()
    answer_cloudformation(request(), failing(OSError("mysql://chat:pass-word@db")), outcome)
    assert outcome.response["Status"] == "FAILED"
    assert outcome.response["Reason"].startswith("OSError; ")
    assert "pass-word" not in json.dumps(outcome.sent)


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path / 'chat.db'}"
    monkeypatch.setenv("MYSQL_URL", url)
    monkeypatch.setenv("REDIS_URL", "secretsmanager:not-for-migrations")
    return url


def ask(url, statement):
    engine = create_engine(url)
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        found = result.scalar() if result.returns_rows else None
    engine.dispose()
    return found


def test_invoked_by_hand_it_brings_a_database_to_its_schema_and_may_be_repeated(fresh):
    for _ in range(2):
        assert handler({}, None) == {"status": "ok", "schema": head()}
    assert ask(fresh, "SELECT version_num FROM alembic_version") == head()
    assert ask(fresh, "SELECT count(*) FROM messages") == 0


def test_a_newer_schema_is_refused_but_left_alone_when_a_deployment_is_rolled_back(fresh):
    handler({}, None)
    ask(fresh, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(NewerSchema):
        handler({}, None)
    for kind, status in {"Create": "FAILED", "Update": "SUCCESS"}.items():
        with Heard() as heard:
            handler(request(kind, ResponseURL=heard.url), None)
        assert heard.bodies[0]["Status"] == status
    assert ask(fresh, "SELECT version_num FROM alembic_version") == "9999"


def test_what_fails_before_the_database_is_reported_too(fresh, monkeypatch):
    monkeypatch.setenv("MYSQL_URL", "")
    with Heard() as heard:
        handler(request(ResponseURL=heard.url), None)
    assert heard.bodies[0]["Status"] == "FAILED"


class TestTheEndOfAStack:
    def test_it_is_answered_without_database_secrets_or_settings(self, monkeypatch):
        monkeypatch.setenv("MYSQL_URL", "secretsmanager:gone-already")
        with Heard() as heard:
            handler(heard.event("Delete", PhysicalResourceId="schema"), None)
        assert heard.bodies[0]["Status"] == "SUCCESS"

    def test_it_imports_nothing_that_could_fail_or_take_time(self):
        program = """
import sys
from migrations.app import answer_cloudformation
names = {"StackId": "s", "RequestId": "r", "LogicalResourceId": "l", "ResponseURL": "u"}
answer_cloudformation({"RequestType": "Delete", **names}, None, lambda url, body: None)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"chat", "sqlalchemy", "alembic", "boto3", "pydantic"}))
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_an_attempt_that_hangs_is_followed_by_another_within_ten_seconds(self):
        assert app.SEND_ATTEMPTS * (app.SEND_SECONDS + app.PAUSE_SECONDS) < 10
        with Heard(hangs=1) as heard:
            app._put(heard.url, b'{"Status": "SUCCESS"}', seconds=0.2)
        assert heard.bodies == [{"Status": "SUCCESS"}]

    def test_what_cannot_be_delivered_is_raised_so_that_lambda_invokes_again(self):
        with Heard(hangs=app.SEND_ATTEMPTS) as heard, pytest.raises(TimeoutError):
            app._put(heard.url, b"{}", seconds=0.1)
        assert heard.asked == app.SEND_ATTEMPTS
