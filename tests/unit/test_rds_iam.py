"""IAM logins to RDS and Aurora: the token is AWS's own, and a server that asks for it as it stands gets it."""

import socket
import struct
import threading
from contextlib import suppress

import pytest
from botocore.session import Session

from chat.adapters.mysql.engine import open_engine
from chat.adapters.mysql.rds_iam import RdsIam
from chat.settings import Secret, SettingsError
from tests.kit.mysql_tls import Authority

HOST = "chat.cluster-1.eu-west-1.rds.amazonaws.com"


@pytest.fixture
def identity(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of/a+role=")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    return Session()


def test_the_token_is_the_one_that_aws_own_client_makes(identity):
    theirs = identity.create_client("rds")
    for _ in range(5):  # both sign the second in which they are asked
        expected = theirs.generate_db_auth_token(HOST, 3306, "chat_functions")
        found = RdsIam(identity).token(HOST, 3306, "chat_functions")
        if found == expected:
            break
    assert found == expected


def test_without_credentials_the_login_fails_and_says_what_is_missing(monkeypatch, tmp_path, identity):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    engine = open_engine(Secret(f"mysql://chat@{HOST}/chat?iam=true&ssl_ca=system"))
    with pytest.raises(Exception, match="needs credentials of AWS"):
        engine.connect()


def test_without_tls_it_is_refused_before_anything_is_sent():
    with pytest.raises(SettingsError, match="ssl_ca"):
        open_engine(Secret(f"mysql://chat@{HOST}/chat?iam=true"))


class AsksForItAsItStands:
    """A server like RDS's with its IAM plugin: it switches to `mysql_clear_password`, notes what it gets, and refuses.

    Source: MySQL Internals, "Connection Phase": HandshakeV10, SSLRequest, AuthSwitchRequest, ERR_Packet.
    """

    def __init__(self, context):
        self.context, self.passwords = context, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with suppress(OSError):
            while True:
                plain, _ = self.listener.accept()
                plain.sendall(framed(0, greeting()))
                read(plain)  # asks for TLS
                with self.context.wrap_socket(plain, server_side=True) as client:
                    sequence, _ = read(client)
                    client.sendall(framed(sequence + 1, b"\xfemysql_clear_password\0\0"))
                    sequence, password = read(client)
                    self.passwords.append(password.rstrip(b"\0").decode())
                    client.sendall(framed(sequence + 1, b"\xff" + struct.pack("<H", 1049) + b"#42000enough"))


def greeting():
    from pymysql.constants import CLIENT

    flags = CLIENT.CAPABILITIES | CLIENT.SSL | CLIENT.PLUGIN_AUTH | CLIENT.CONNECT_WITH_DB
    return (
        *(b"\x0a8.0.39\0" + struct.pack("<I", 1) + b"12345678\0" + struct.pack("<H", flags & 0xFFFF),),
        *(b"\x2d\x02\0" + struct.pack("<H", flags >> 16) + b"\x15" + bytes(10),),
        b"123456789012\0mysql_native_password\0",
    )


def framed(sequence, body):
    body = b"".join(body) if isinstance(body, tuple) else body
    return len(body).to_bytes(3, "little") + bytes([sequence]) + body


def read(source):
    header = source.recv(4)
    length, body = int.from_bytes(header[:3], "little"), b""
    while len(body) < length:
        body += source.recv(length - len(body))
    return header[3], body


def test_each_connection_brings_a_token_of_its_own_over_tls(identity, tmp_path):
    authority = Authority(tmp_path, "authority")
    server = AsksForItAsItStands(authority.context_for("127.0.0.1"))
    engine = open_engine(Secret(f"mysql://chat@127.0.0.1:{server.port}/chat?iam=true&ssl_ca={authority.path}"))
    for _ in range(2):
        with pytest.raises(Exception, match="enough"):
            engine.connect()
    assert len(server.passwords) == 2
    for password in server.passwords:
        assert password.startswith(
            f"127.0.0.1:{server.port}/?Action=connect&DBUser=chat&X-Amz-Algorithm=AWS4-HMAC-SHA256"
        )
        assert "rds-db" in password
        assert "X-Amz-Expires=900" in password
    server.listener.close()
