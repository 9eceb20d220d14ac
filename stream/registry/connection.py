"""Where the schema registry is and how to get in; the only reader of these environment variables."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from models.ca_file import check_ca_file
from models.certificate_file import check_client_certificate
from models.errors import SettingsError

#: How long the registry has for an answer (s).
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class RegistryConnection:
    """How to reach the schema registry. Secrets are never part of the repr."""

    #: Its URL, several with commas between; Apicurio's ends in /apis/ccompat/v7 (SCHEMA_REGISTRY_URL).
    url: str = ""
    #: SCHEMA_REGISTRY_USERNAME
    username: str = field(default="", repr=False)
    #: SCHEMA_REGISTRY_PASSWORD
    password: str = field(default="", repr=False)
    #: Bearer token, instead of name and password (SCHEMA_REGISTRY_TOKEN).
    token: str = field(default="", repr=False)
    #: CA file that signed its certificate; empty: the usual ones (SCHEMA_REGISTRY_SSL_CA_FILE).
    ssl_ca_file: str = ""
    #: Our own certificate, its key (empty: in the same file), and what the key is encrypted with
    #: (SCHEMA_REGISTRY_SSL_CERTIFICATE_FILE, SCHEMA_REGISTRY_SSL_KEY_FILE, SCHEMA_REGISTRY_SSL_KEY_PASSWORD).
    ssl_certificate_file: str = ""
    ssl_key_file: str = ""
    ssl_key_password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        for url in filter(None, self.url.split(",")):
            parts = urlsplit(url.strip())
            if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
                raise SettingsError(
                    "SCHEMA_REGISTRY_URL must be http://host:port or https://host:port, without a password: "
                    "set SCHEMA_REGISTRY_USERNAME and SCHEMA_REGISTRY_PASSWORD, or SCHEMA_REGISTRY_TOKEN"
                )
        check_ca_file("SCHEMA_REGISTRY_SSL_CA_FILE", self.ssl_ca_file)
        own = self.ssl_certificate_file, self.ssl_key_file, self.ssl_key_password
        check_client_certificate("SCHEMA_REGISTRY", *own, is_tls="https://" in self.url)
        if self.token and (self.username or self.password):
            raise SettingsError(
                "SCHEMA_REGISTRY_TOKEN and SCHEMA_REGISTRY_USERNAME exclude each other; set one"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "RegistryConnection":
        """Read the SCHEMA_REGISTRY_* variables; what is not set keeps its default."""
        return cls(
            url=environment.get("SCHEMA_REGISTRY_URL", ""),
            username=environment.get("SCHEMA_REGISTRY_USERNAME", ""),
            password=environment.get("SCHEMA_REGISTRY_PASSWORD", ""),
            token=environment.get("SCHEMA_REGISTRY_TOKEN", ""),
            ssl_ca_file=environment.get("SCHEMA_REGISTRY_SSL_CA_FILE", ""),
            ssl_certificate_file=environment.get("SCHEMA_REGISTRY_SSL_CERTIFICATE_FILE", ""),
            ssl_key_file=environment.get("SCHEMA_REGISTRY_SSL_KEY_FILE", ""),
            ssl_key_password=environment.get("SCHEMA_REGISTRY_SSL_KEY_PASSWORD", ""),
        )

    @property
    def name(self) -> str:
        """Return the URL for messages, without what could be a secret in its query."""
        return re.sub(r"\?[^,]*", "", self.url)

    def client(self) -> Any:
        """Return Confluent's client."""
        from confluent_kafka.schema_registry import SchemaRegistryClient  # a second of imports

        config: dict[str, object] = {"url": self.url, "timeout": TIMEOUT_S, "max.retries": 0}
        if self.username:
            config["basic.auth.user.info"] = f"{self.username}:{self.password}"
        if self.token:
            config |= {
                "bearer.auth.credentials.source": "STATIC_TOKEN",
                "bearer.auth.token": self.token,
                "bearer.auth.logical.cluster": "",
            }
        if self.ssl_ca_file:
            config["ssl.ca.location"] = self.ssl_ca_file
        if self.ssl_certificate_file:
            config["ssl.certificate.location"] = self.ssl_certificate_file
            config["ssl.key.location"] = self.ssl_key_file or self.ssl_certificate_file
        if self.ssl_key_password:
            config["ssl.key.password"] = self.ssl_key_password
        return SchemaRegistryClient(config)
