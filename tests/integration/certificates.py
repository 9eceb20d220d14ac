"""Authorities and certificates of a test's own: good ones, and each way in which one is refused."""

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOOPBACK = "127.0.0.1"


class Authority:
    """Signs certificates; its own is in `ca_file`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self.ca_file = folder / f"{name}.pem"
        certificate = _unsigned(self._name, self._name, self._key, days=1).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.ca_file.write_bytes(_pem(certificate.sign(self._key, hashes.SHA256())))

    def encrypted(self, name: str, password: str) -> tuple[Path, Path]:
        """Write a certificate, and its key, encrypted, apart from it; return the two files."""
        whole = self.certificate(name).read_bytes()
        key = serialization.load_pem_private_key(whole, None)
        key_file, file = self._folder / f"{name}.key", self._folder / f"{name}.pem"
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password.encode()),
            )
        )
        file.write_bytes(whole[whole.index(b"-----BEGIN CERTIFICATE") :])
        return file, key_file

    def certificate(self, name: str, host: str = LOOPBACK, days: float = 1) -> Path:
        """Write a key and a certificate for a host, valid for so many days from now, and return the file.

        With fewer than 0 days it has expired.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        built = _unsigned(_named(name), self._name, key, days).add_extension(
            x509.SubjectAlternativeName([_general_name(host)]), critical=False
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file = self._folder / f"{name}.pem"
        file.write_bytes(private + _pem(built.sign(self._key, hashes.SHA256())))
        return file


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=3))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
