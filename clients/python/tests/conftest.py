"""The stores that the service's own tests run on."""

from tests.kit.databases import sqlite_template, sqlite_url
from tests.kit.redis_servers import embedded_redis

__all__ = ["embedded_redis", "sqlite_template", "sqlite_url"]
