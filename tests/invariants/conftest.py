"""The stores that invariants must hold on: the embedded ones, and the servers that are given."""

from collections.abc import Iterator

import pytest

from migrations.runner import upgrade
from tests.kit.ai_server import AIServer
from tests.kit.databases import fresh_mysql
from tests.kit.fleet import Fleet, Stores, patient
from tests.kit.redis_servers import given

EVERY_STORES = ["embedded", "servers", "cluster"]


@pytest.fixture(scope="session")
def mysql_url() -> Iterator[str]:
    """A MySQL database that all these tests share: they tell their rows apart by new ids."""
    with fresh_mysql(given("MYSQL_URL")) as url:
        upgrade(url)
        yield url


@pytest.fixture(params=EVERY_STORES)
def stores(request: pytest.FixtureRequest) -> Stores:
    """Each pair of stores that is at hand: embedded Valkey and SQLite; Valkey, also in cluster mode, and MySQL."""
    if request.param == "embedded":
        return Stores(request.getfixturevalue("embedded_redis"), request.getfixturevalue("sqlite_url"))
    redis_url = given({"servers": "REDIS_URL", "cluster": "REDIS_CLUSTER_URL"}[request.param])
    return Stores(redis_url, request.getfixturevalue("mysql_url"))


@pytest.fixture
async def ai():
    async with AIServer() as server:
        server.default = patient
        yield server


@pytest.fixture
async def fleet(stores: Stores, ai: AIServer):
    async with Fleet(stores, ai) as fleet:
        yield fleet
