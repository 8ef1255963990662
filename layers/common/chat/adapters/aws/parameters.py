"""Secrets Manager and Parameter Store through Powertools, which caches what it read. Imports boto3."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.utilities.parameters import SecretsProvider, SSMProvider
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from chat.adapters.aws.secrets import Reference

_WAITS = Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 3})


class Parameters:
    """Reads what a reference points to; region and credentials are the function's own."""

    def __init__(self, max_age_seconds: int) -> None:
        self._max_age_seconds = max_age_seconds
        self._providers: dict[str, SecretsProvider | SSMProvider] = {}

    def read(self, reference: Reference, fresh: bool) -> str:
        """Return the text that is kept there; `fresh` passes the cache by.

        Raises:
            LookupError: it cannot be read; the message is AWS's code, never its text.
        """
        options: dict[str, Any] = {"max_age": self._max_age_seconds, "force_fetch": fresh}
        if reference.kind == "ssm":
            options["decrypt"] = True
        try:
            value = self._provider(reference.kind).get(reference.name, **options)
        except (GetParameterError, BotoCoreError) as error:
            raise LookupError(_code_of(error)) from None
        if isinstance(value, str):
            return value
        raise LookupError("it is no text")

    def _provider(self, kind: str) -> SecretsProvider | SSMProvider:
        if kind not in self._providers:
            make = SSMProvider if kind == "ssm" else SecretsProvider
            self._providers[kind] = make(boto_config=_WAITS)
        return self._providers[kind]


def _code_of(error: BaseException) -> str:
    """Return AWS's short code for what went wrong, or the kind of error that botocore reports."""
    cause = error.__context__ or error
    response = getattr(cause, "response", None)
    return str(response["Error"]["Code"]) if isinstance(response, dict) else type(cause).__name__
