"""Logging in to ElastiCache as an IAM identity: the password is a presigned request, made anew for each connection.

Source: Amazon ElastiCache user guide, "Authenticating with IAM": action `connect`, service `elasticache`, valid for 15
minutes; the user's name and id must be the same, and TLS is required.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis.credentials import CredentialProvider

TOKEN_SECONDS = 900


class ElastiCacheIam(CredentialProvider):
    """redis-py's credential provider for `rediss://user@host:6379/0?iam=CACHE-NAME[&iam_serverless=true]`."""

    def __init__(self, user: str, cache: str, is_serverless: bool = False, session: Any = None) -> None:
        self._user, self._cache, self._is_serverless = user, cache.lower(), is_serverless
        self._session = session

    def get_credentials(self) -> tuple[str, str]:
        """Return user and token. May read credentials from the network; blocks.

        Raises:
            ConnectionLost: no credentials of AWS, or no region, are at hand.
        """
        from urllib.parse import urlencode

        from botocore.auth import SigV4QueryAuth
        from botocore.awsrequest import AWSRequest
        from botocore.session import get_session

        from chat.adapters.redis.connection import ConnectionLost

        session = self._session or get_session()
        credentials, region = session.get_credentials(), session.get_config_variable("region")
        if credentials is None or not region:
            raise ConnectionLost("ElastiCache's IAM login needs credentials of AWS and a region")
        query = {"Action": "connect", "User": self._user}
        if self._is_serverless:
            query["ResourceType"] = "ServerlessCache"
        request = AWSRequest("GET", f"https://{self._cache}/?{urlencode(query)}")
        SigV4QueryAuth(credentials.get_frozen_credentials(), "elasticache", region, TOKEN_SECONDS).add_auth(request)
        return self._user, str(request.url).removeprefix("https://")

    async def get_credentials_async(self) -> tuple[str, str]:
        """Return user and token, made beside the event loop."""
        return await asyncio.to_thread(self.get_credentials)
