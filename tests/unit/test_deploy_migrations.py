"""The function that migrates: what CloudFormation hears of it, and what an invocation by hand does."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from sqlalchemy import create_engine, text

from migrations.app import answer_cloudformation, handler
from migrations.runner import MigrationError, NewerSchema, head


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
        with listening() as (url, heard):
            handler(request(kind, ResponseURL=url), None)
        assert heard[0]["Status"] == status
    assert ask(fresh, "SELECT version_num FROM alembic_version") == "9999"


class listening:  # noqa: N801
    """An address as CloudFormation gives it: signed for a PUT without a content type."""

    def __enter__(self):
        heard = []

        class Requests(BaseHTTPRequestHandler):
            def do_PUT(self):
                assert self.path == "/outcome?signed=1"
                assert not self.headers["Content-Type"]
                heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Requests)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_port}/outcome?signed=1", heard

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def test_what_fails_before_the_database_is_reported_too(fresh, monkeypatch):
    monkeypatch.setenv("MYSQL_URL", "")
    with listening() as (url, heard):
        handler(request(ResponseURL=url), None)
    assert heard[0]["Status"] == "FAILED"
