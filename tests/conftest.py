"""Fixtures for all tests."""

from tests.kit.databases import database_url, mysql_url, sqlite_template, sqlite_url
from tests.kit.redis_servers import embedded_redis, redis_url

__all__ = ["database_url", "embedded_redis", "mysql_url", "redis_url", "sqlite_template", "sqlite_url"]
