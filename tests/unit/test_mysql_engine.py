"""What a database's URL becomes, before anything connects."""

import sqlite3
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from chat.adapters.mysql.engine import MAX_CONNECTIONS, engine_options, open_engine, prepare_sqlite
from chat.settings import Secret, SettingsError

URL = "mysql://user:p%40ss%2Fword@db.example:3307/chat"


def connect_args(query: str = "", url: str = URL) -> dict:
    return engine_options(Secret(url + query))[1]["connect_args"]


@pytest.mark.parametrize("scheme", ["mysql", "mysql+pymysql"])
def test_both_schemes_name_the_same_server(scheme):
    engine = open_engine(Secret(URL.replace("mysql", scheme, 1)))
    arguments = engine.dialect.create_connect_args(engine.url)[1]
    assert {name: arguments[name] for name in ("host", "port", "user", "password", "database")} == {
        "host": "db.example",
        "port": 3307,
        "user": "user",
        "password": "p@ss/word",
        "database": "chat",
    }


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hidden@host/chat",
        "mysql+aiomysql://user:hidden@host/chat",
        "mysql://user:hidden@host",
        "mysql://user:hidden@host:port/chat",
        "hidden",
        "",
    ],
)
def test_another_kind_of_url_is_refused_and_not_shown(url):
    with pytest.raises(SettingsError, match="MYSQL_URL") as caught:
        open_engine(Secret(url))
    assert "hidden" not in str(caught.value)


def test_a_password_is_in_no_picture_of_the_engine():
    engine = open_engine(Secret(URL))
    assert "p@ss" not in repr(engine) + str(engine.url) + repr(engine.url)
    assert "p%40ss" not in repr(engine) + str(engine.url)


def test_waits_are_bounded_and_texts_are_utf8():
    arguments = connect_args()
    assert arguments["charset"] == "utf8mb4"
    assert all(0 < arguments[name] <= 5 for name in ("connect_timeout", "read_timeout", "write_timeout"))


def test_what_the_url_says_of_them_wins():
    engine = open_engine(Secret(URL + "?read_timeout=7"))
    assert "read_timeout" not in connect_args("?read_timeout=7")
    assert engine.dialect.create_connect_args(engine.url)[1]["read_timeout"] == 7


def test_an_update_counts_the_rows_that_it_found_though_it_changed_nothing():
    """MySQL counts changed rows otherwise, and a checkpoint that repeats itself would look like a lost answer."""
    from pymysql.constants import CLIENT

    engine = open_engine(Secret(URL))
    assert engine.dialect.create_connect_args(engine.url)[1]["client_flag"] & CLIENT.FOUND_ROWS


class TestTls:
    def test_without_an_authority_there_is_none(self):
        assert connect_args()["ssl_disabled"] is True
        assert "ssl" not in connect_args()

    def test_with_one_certificate_and_host_name_are_verified(self):
        context = connect_args("?ssl_ca=system")["ssl"]
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert "ssl_disabled" not in connect_args("?ssl_ca=system")

    def test_the_driver_does_not_see_what_has_become_a_context(self):
        target, _ = engine_options(Secret(URL + "?ssl_ca=system&read_timeout=7"))
        assert dict(target.query) == {"read_timeout": "7"}

    def test_other_parameters_are_left_to_the_driver(self):
        target, options = engine_options(Secret(URL + "?ssl_check_hostname=true"))
        assert dict(target.query) == {"ssl_check_hostname": "true"}
        assert not {"ssl", "ssl_disabled"} & set(options["connect_args"])


@pytest.mark.parametrize(
    ("concurrency", "size"), [(0, 2), (1, 2), (4, 5), (MAX_CONNECTIONS, MAX_CONNECTIONS), (1000, MAX_CONNECTIONS)]
)
@pytest.mark.parametrize("url", [URL, "sqlite:///chat.db"])
def test_the_pool_is_one_larger_than_the_concurrency_within_bounds(url, concurrency, size):
    engine = open_engine(Secret(url), concurrency)
    assert engine.pool.size() == size


def test_values_are_kept_out_of_error_messages():
    assert open_engine(Secret(URL)).hide_parameters
    assert open_engine(Secret("sqlite:///chat.db")).hide_parameters


class Told(sqlite3.Connection):
    """Tells when the database was locked."""

    refused = threading.Event()

    def execute(self, *arguments):
        try:
            return super().execute(*arguments)
        except sqlite3.OperationalError:
            self.refused.set()
            raise


def test_a_new_sqlite_file_that_another_process_is_writing_is_waited_for(tmp_path):
    path = tmp_path / "chat.db"

    def prepared() -> str:
        with closing(sqlite3.connect(path, factory=Told)) as second:
            prepare_sqlite(second, None)
            return second.execute("PRAGMA journal_mode").fetchone()[0]

    with closing(sqlite3.connect(path, isolation_level=None)) as first, ThreadPoolExecutor(1) as threads:
        first.execute("BEGIN IMMEDIATE")
        mode = threads.submit(prepared)
        assert Told.refused.wait(10)
        first.execute("COMMIT")
        assert mode.result(10) == "wal"
