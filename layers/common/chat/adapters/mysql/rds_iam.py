"""Logging in to RDS or Aurora as an IAM identity: the password is a presigned request, made anew for each connection.

Source: Amazon Aurora user guide, "IAM database authentication": action `connect`, service `rds-db`, valid for 15
minutes; the server asks for it as it stands (`mysql_clear_password`), so TLS is required.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from sqlalchemy.exc import OperationalError

TOKEN_SECONDS = 900


class RdsIam:
    """SQLAlchemy's `do_connect` for `mysql://user@host:3306/chat?iam=true&ssl_ca=PATH`."""

    def __init__(self, session: Any = None) -> None:
        self._session = session

    def __call__(self, _: object, __: object, ___: object, arguments: dict[str, Any]) -> None:
        """Put a fresh token where the password goes; the connection is then made as ever."""
        arguments["password"] = self.token(arguments["host"], arguments.get("port", 3306), arguments["user"])

    def token(self, host: str, port: int, user: str) -> str:
        """Return what stands for the password. May read credentials from the network; blocks.

        Raises:
            OperationalError: no credentials of AWS, or no region, are at hand.
        """
        from botocore.auth import SigV4QueryAuth
        from botocore.awsrequest import AWSRequest
        from botocore.session import get_session

        session = self._session or get_session()
        credentials, region = session.get_credentials(), session.get_config_variable("region")
        if credentials is None or not region:
            reason = RuntimeError("the database's IAM login needs credentials of AWS and a region")
            raise OperationalError("connect", None, reason)
        query = urlencode({"Action": "connect", "DBUser": user})
        request = AWSRequest("GET", f"https://{host}:{port}/?{query}")
        SigV4QueryAuth(credentials.get_frozen_credentials(), "rds-db", region, TOKEN_SECONDS).add_auth(request)
        return str(request.url).removeprefix("https://")
