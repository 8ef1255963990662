"""Asking Amazon Bedrock as the role that the process runs under: each request is signed, no key exists.

Source: AWS Signature Version 4, as botocore implements it. botocore is imported here alone in this package, and only
where Bedrock is asked so. docs/performance.md says what it costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import httpx

from chat.adapters.llm.authorization import Grant
from chat.ai_settings import Role
from chat.domain.errors import AnswerFailed, FailureCode
from chat.environment import SettingsError

NO_CREDENTIALS = "no credentials of AWS were found for Bedrock"
_SIGNED = frozenset({"authorization", "x-amz-date", "x-amz-security-token"})


def load_credentials() -> Any:
    """Return botocore's credentials, those of the environment first, as a function has them; None without any. Blocks.

    botocore's session looks there first too, but importing it takes a third more.
    """
    import botocore.auth  # noqa: F401  # beside the event loop, before a request waits
    from botocore.credentials import EnvProvider
    from botocore.exceptions import BotoCoreError

    try:
        found = EnvProvider().load()
        if found is None:
            from botocore.session import get_session

            found = get_session().get_credentials()
    except BotoCoreError:
        return None
    return found


class BedrockRole:
    """Signs requests. Credentials that expire are renewed by botocore before they do, and here when refused."""

    REFUSED: frozenset[int] = frozenset({httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN})

    def __init__(self, role: Role, load: Callable[[], Any] = load_credentials) -> None:
        """Nothing is read yet.

        Raises:
            SettingsError: botocore is not installed. On Lambda it always is.
        """
        if find_spec("botocore") is None:
            raise SettingsError("OPENAI_BASE_URL: Bedrock needs boto3, which is not installed; for make run: make aws")
        self._role = role
        self._load = load
        self._credentials: Any = None
        self._lock = asyncio.Lock()

    async def prepare(self) -> bool:
        """Import what signs and find the credentials, beside the event loop; False when there are none."""
        async with self._lock:
            if self._credentials is None:
                self._credentials = await asyncio.to_thread(self._load)
        return self._credentials is not None

    async def grant(self, url: httpx.URL, content: bytes) -> Grant:
        """Return the signature's headers."""
        await self.prepare()
        try:
            frozen = await self._frozen()
        except Exception as error:  # botocore's, of many kinds; their text may name places
            raise AnswerFailed(FailureCode.AI_UNAVAILABLE, f"credentials of AWS: {type(error).__name__}") from None
        if frozen is None:
            raise AnswerFailed(FailureCode.AI_REJECTED, NO_CREDENTIALS)
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        request = AWSRequest("POST", str(url), data=content, headers={"content-type": "application/json"})
        SigV4Auth(frozen, self._role.signing_name, self._role.region).add_auth(request)
        return Grant({name: text for name, text in request.headers.items() if name.lower() in _SIGNED}, frozen)

    async def renewed(self, refused: Grant) -> bool:
        """Look for credentials anew."""
        async with self._lock:
            if await self._frozen() != refused.credentials:
                return True
            self._credentials = await asyncio.to_thread(self._load)
            return await self._frozen() not in (None, refused.credentials)

    def refusal(self, status: int) -> str | None:
        """Name the right that is missing."""
        if status not in self.REFUSED:
            return None
        return f"Bedrock refused the role ({status}): it needs the right {self._role.right} in {self._role.region}"

    async def _frozen(self) -> Any:
        """Return the credentials of this moment; where they are about to expire, new ones are fetched first."""
        credentials = self._credentials
        if credentials is None:
            return None
        is_due = getattr(credentials, "refresh_needed", None)
        if is_due is not None and is_due():
            return await asyncio.to_thread(credentials.get_frozen_credentials)
        return credentials.get_frozen_credentials()
