"""Fixtures for all tests."""

from tests.kit.redis_servers import embedded_redis, redis_url

__all__ = ["embedded_redis", "redis_url"]
