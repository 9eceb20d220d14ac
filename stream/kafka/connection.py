"""Where Kafka is and how to get in; the only reader of these environment variables."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from models.ca_file import check_ca_file
from models.certificate_file import check_client_certificate
from models.errors import SettingsError

#: A host, or an IPv6 address in brackets, and its port.
_SERVER = re.compile(r"(?:[\w.-]+|\[[\da-fA-F:.]+\]):\d{1,5}")


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """How to reach Kafka. Secrets are never part of the repr."""

    #: Comma-separated `host:port` of the brokers (KAFKA_BOOTSTRAP_SERVERS).
    bootstrap_servers: str = "localhost:9092"
    #: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL (KAFKA_SECURITY_PROTOCOL).
    security_protocol: str = "PLAINTEXT"
    #: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 (KAFKA_SASL_MECHANISM).
    sasl_mechanism: str = "PLAIN"
    #: KAFKA_SASL_USERNAME
    sasl_username: str = field(default="", repr=False)
    #: KAFKA_SASL_PASSWORD
    sasl_password: str = field(default="", repr=False)
    #: CA file that signed the brokers' certificates; empty: the system's (KAFKA_SSL_CA_FILE).
    ssl_ca_file: str = ""
    #: Our own certificate, its key (empty: in the same file), and what the key is encrypted with
    #: (KAFKA_SSL_CERTIFICATE_FILE, KAFKA_SSL_KEY_FILE, KAFKA_SSL_KEY_PASSWORD).
    ssl_certificate_file: str = ""
    ssl_key_file: str = ""
    ssl_key_password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        protocols = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
        if self.security_protocol not in protocols:
            raise SettingsError(
                f"KAFKA_SECURITY_PROTOCOL is {self.security_protocol!r}; use one of {', '.join(protocols)}"
            )
        mechanisms = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
        if self.sasl_mechanism not in mechanisms:
            raise SettingsError(
                f"KAFKA_SASL_MECHANISM is {self.sasl_mechanism!r}; use one of {', '.join(mechanisms)}"
            )
        check_ca_file("KAFKA_SSL_CA_FILE", self.ssl_ca_file)
        own = self.ssl_certificate_file, self.ssl_key_file, self.ssl_key_password
        check_client_certificate("KAFKA", *own, is_tls=self.is_tls)
        servers = [each.strip() for each in self.bootstrap_servers.split(",") if each.strip()]
        if not servers:
            raise SettingsError("KAFKA_BOOTSTRAP_SERVERS is empty; give host:port of at least one broker")
        if not all(_SERVER.fullmatch(each) for each in servers):  # not shown: it may hold a password
            raise SettingsError(
                "KAFKA_BOOTSTRAP_SERVERS must be host:port,host:port, with nothing around them"
            )
        object.__setattr__(self, "bootstrap_servers", ",".join(servers))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "KafkaConnection":
        """Read the KAFKA_* variables; what is not set keeps its default."""
        return cls(
            bootstrap_servers=environment.get("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092"),
            security_protocol=environment.get("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT").upper(),
            sasl_mechanism=environment.get("KAFKA_SASL_MECHANISM", "PLAIN").upper(),
            sasl_username=environment.get("KAFKA_SASL_USERNAME", ""),
            sasl_password=environment.get("KAFKA_SASL_PASSWORD", ""),
            ssl_ca_file=environment.get("KAFKA_SSL_CA_FILE", ""),
            ssl_certificate_file=environment.get("KAFKA_SSL_CERTIFICATE_FILE", ""),
            ssl_key_file=environment.get("KAFKA_SSL_KEY_FILE", ""),
            ssl_key_password=environment.get("KAFKA_SSL_KEY_PASSWORD", ""),
        )

    @property
    def is_tls(self) -> bool:
        """Whether brokers are talked to by TLS."""
        return self.security_protocol.endswith("SSL")

    def librdkafka(self) -> dict[str, str | int | float | bool]:
        """Return the connection as librdkafka (confluent-kafka) settings."""
        settings: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": self.security_protocol,
        }
        if self.security_protocol.startswith("SASL"):
            settings["sasl.mechanism"] = self.sasl_mechanism
            settings["sasl.username"] = self.sasl_username
            settings["sasl.password"] = self.sasl_password
        if self.ssl_ca_file:
            settings["ssl.ca.location"] = self.ssl_ca_file
        if self.ssl_certificate_file:
            settings["ssl.certificate.location"] = self.ssl_certificate_file
            settings["ssl.key.location"] = self.ssl_key_file or self.ssl_certificate_file
        if self.ssl_key_password:
            settings["ssl.key.password"] = self.ssl_key_password
        return settings
