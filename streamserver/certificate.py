"""Certificates: making a self-signed one, its fingerprint. The only module that knows x509."""

from __future__ import annotations

import datetime
import ipaddress
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from streamserver.errors import ServerConfigurationError

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", re.ASCII)
VALID_DAYS = 3650  # clients pin it: its end is a new pin for all of them


@dataclass(frozen=True, slots=True)
class SelfSigned:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


def make_self_signed(hosts: Sequence[str], *, now: datetime.datetime) -> SelfSigned:
    """Return a new self-signed certificate for these host names and addresses, valid from `now`.

    Raises:
        ServerConfigurationError: no host, or one that cannot stand in a certificate.
    """
    if not hosts:
        raise ServerConfigurationError(
            "certificate for no host", hint="name the hosts: --self-signed HOST..."
        )
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        names = [_alternative_name(host) for host in hosts]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    except ValueError as error:
        raise ServerConfigurationError(
            f"not a host name or address: {', '.join(hosts)[:100]!a}",
            hint="example: --self-signed apps.example.org",
        ) from error
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return SelfSigned(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def fingerprint_of(path: Path) -> str:
    """Return the SHA-256 of the first certificate in a PEM file, as `AB:CD:...`: what clients compare.

    Raises:
        ServerConfigurationError: the file holds no certificate.
    """
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ServerConfigurationError(
            f"certificate cannot be read: {path}", hint="give a PEM file"
        ) from error
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the settings with which the server speaks TLS (1.2 or newer).

    Raises:
        ServerConfigurationError: a file that cannot be read, or that does not belong to the other.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for path in (certificate, key):
        if not path.is_file():
            raise ServerConfigurationError(
                f"no such file: {path}", hint="give PEM files: --certificate and --key"
            )
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise ServerConfigurationError(
            f"certificate and key cannot be used ({_reason(error)}): {certificate}, {key}",
            hint="give PEM files of one pair, the key without a password",
        ) from error
    return context


def _no_password() -> str:
    raise ValueError("the key has a password")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        labels = host.removeprefix("*.").removesuffix(".").split(".")
        if (host.startswith("*.") and len(labels) < 2) or not all(map(_LABEL.fullmatch, labels)):
            raise
        return x509.DNSName(host)
