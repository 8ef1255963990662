"""TLS in front of a MySQL server that a test did not start, with certificates of the test's own."""

import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """A certificate authority; `path` is where its certificate is."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.path = folder / f"{name}.pem"
        certificate = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=0))
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def context_for(self, host: str) -> ssl.SSLContext:
        """Return a server's context with a certificate for `host`, a name or an address."""
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            place: x509.GeneralName = x509.IPAddress(ip_address(host))
        except ValueError:
            place = x509.DNSName(host)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        certificate = self._sign(subject, key, x509.SubjectAlternativeName([place]))
        path = self._folder / f"server-{host}.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType):
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .sign(self._key, hashes.SHA256())
        )


@contextmanager
def tls_in_front_of(server_url: str, context: ssl.SSLContext) -> Iterator[str]:
    """Yield an address that speaks MySQL with `context`'s certificate, and passes everything on to `server_url`.

    MySQL begins in plain text: the server greets, the client asks for TLS with one packet, then both shake hands.
    Source: MySQL Internals, "Connection Phase", SSLRequest.
    """
    parts = urlsplit(server_url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = (parts.hostname, parts.port)
        threading.Thread(target=_accept, args=(listener, target, context), daemon=True).start()
        login = parts.netloc.rpartition("@")[0]
        yield parts._replace(netloc=f"{login}@127.0.0.1:{listener.getsockname()[1]}").geturl()


def _accept(listener: socket.socket, target: tuple, context: ssl.SSLContext) -> None:
    with suppress(OSError):  # the listener is closed at the end
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_serve, args=(client, target, context), daemon=True).start()


def _serve(client: socket.socket, target: tuple, context: ssl.SSLContext) -> None:
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    with suppress(OSError), client, socket.create_connection(target) as server:
        client.sendall(_packet(server))
        server.sendall(_packet(client))
        with context.wrap_socket(client, server_side=True) as near, unverified.wrap_socket(server) as far:
            _pass_on(near, far)


def _packet(source: socket.socket) -> bytes:
    """Read exactly one packet, and not a byte of what follows."""
    header = source.recv(4, socket.MSG_WAITALL)
    return header + source.recv(int.from_bytes(header[:3], "little"), socket.MSG_WAITALL)


def _pass_on(near: ssl.SSLSocket, far: ssl.SSLSocket) -> None:
    """Pass bytes both ways in one thread: reading and writing one TLS connection from two is not allowed."""
    while True:
        ready = [end for end in (near, far) if end.pending()] or select.select([near, far], [], [])[0]
        for source in ready:
            target = far if source is near else near
            source.setblocking(False)
            try:
                data = source.recv(65536)
            except ssl.SSLWantReadError:
                continue  # it was about the connection itself: TLS 1.3's tickets
            finally:
                source.setblocking(True)
            if not data:
                return
            target.sendall(data)
