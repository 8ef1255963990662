"""A service that answers are asked of: connections and authorization that it shares with no other."""

from __future__ import annotations

import logging
from urllib.request import getproxies, proxy_bypass

import httpx

from chat.adapters.llm.authorization import ApiKey, Authorization, RenewKey
from chat.adapters.llm.bedrock_role import NO_CREDENTIALS, BedrockRole
from chat.adapters.llm.transport import LeanTransport
from chat.ai_settings import AISettings, ProviderSettings

CONNECT_SECONDS = 5.0

logger = logging.getLogger(__name__)


def proxy_of(base_url: str) -> str | None:
    """Return the name of the variable whose proxy stands before `base_url`, None where none does.

    Proxies are what httpx and urllib take them to be: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, less `NO_PROXY`.
    """
    url = httpx.URL(base_url)
    proxies = getproxies()
    found = next((name for name in (url.scheme, "all") if name in proxies), None)
    return None if found is None or proxy_bypass(url.host) else f"{found.upper()}_PROXY"


def choose_transport(settings: ProviderSettings) -> LeanTransport | None:
    """Return the lean transport; None, for httpx's own, where a proxy is to be used."""
    return LeanTransport() if proxy_of(settings.base_url) is None else None


class Provider:
    """To be closed after the last answer has ended; that closes every connection."""

    def __init__(
        self,
        settings: ProviderSettings,
        first_token_timeout_seconds: float,
        renew_key: RenewKey | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Open nothing yet; without a transport `choose_transport` chooses.

        Raises:
            SettingsError: what signs requests is not installed.
        """
        self.settings = settings
        self.authorization: Authorization = (
            ApiKey(settings.api_key, settings.key_setting, renew_key)
            if settings.role is None
            else BedrockRole(settings.role)
        )
        self._transport = transport or choose_transport(settings)
        self.proxy = proxy_of(settings.base_url) if self._transport is None else None
        """The variable that names a proxy on the way."""
        self.client = httpx.AsyncClient(
            transport=self._transport,
            headers={"accept": "text/event-stream", "accept-encoding": "identity"},
            timeout=httpx.Timeout(None, connect=min(CONNECT_SECONDS, first_token_timeout_seconds)),
            limits=httpx.Limits(max_keepalive_connections=0),  # httpx's own pool would not notice that it was frozen
            follow_redirects=False,
        )
        self.headers = {name: value.reveal() for name, value in settings.headers}
        self._told: set[str] = set()

    async def warm(self, timeout_seconds: float) -> None:
        """Open a connection for the first answer, where that can be done beforehand."""
        if isinstance(self._transport, LeanTransport):
            await self._transport.warm(self.settings.base_url, timeout_seconds=timeout_seconds)

    async def prepare(self) -> None:
        """Find what requests will be signed with."""
        if isinstance(self.authorization, BedrockRole) and not await self.authorization.prepare():
            self.tell_once(NO_CREDENTIALS)

    def tell_once(self, notice: str) -> None:
        """Log what an operator should do, the first time only; `make run` shows it at the terminal."""
        if notice not in self._told:
            self._told.add(notice)
            logger.error(notice, extra={"notice": True})

    async def close(self) -> None:
        """Close every connection."""
        await self.client.aclose()


def open_providers(
    settings: AISettings, renew_key: RenewKey | None, transport: httpx.AsyncBaseTransport | None
) -> dict[ProviderSettings, Provider]:
    """Return one provider for each that the models name."""
    providers: dict[ProviderSettings, Provider] = {}
    for model in settings.catalog:
        if model.provider not in providers:
            providers[model.provider] = Provider(
                model.provider, settings.first_token_timeout_seconds, renew_key, transport
            )
    return providers
