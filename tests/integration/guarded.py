"""A broker with an authorizer, doors by password and by certificate, and whoever asks it for something."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from local.kafka import KafkaServer
from local.ports import free_port
from stream.kafka.connection import KafkaConnection
from stream.kafka.topics import admin_client
from tests.integration.certificates import LOOPBACK

USER, PASSWORD = "worker", "p:w"
#: Name in the certificate of whom the broker lets do everything.
CLIENT = "client"
HOST = "*"


class Guarded:
    """A broker where only whoever comes without a password may everything."""

    def __init__(self, server: KafkaServer) -> None:
        self.server = server
        self.password_port, self.certificate_port = free_port(), free_port()
        self.open = KafkaConnection(server.bootstrap_servers)

    def start(self, certificate: Path, authority: Path) -> None:
        """Start it, known by a certificate; the door by certificate lets in whom the authority has signed."""
        ports = {
            "PLAINTEXT": self.server.port,
            "SASL_SSL": self.password_port,
            "SSL": self.certificate_port,
            "CONTROLLER": self.server.controller_port,
        }
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        self.server.settings = {
            "listeners": ",".join(f"{name}://{LOOPBACK}:{port}" for name, port in ports.items()),
            "advertised.listeners": ",".join(
                f"{name}://{LOOPBACK}:{port}" for name, port in ports.items() if name != "CONTROLLER"
            ),
            "listener.security.protocol.map": (
                "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL"
            ),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:ANONYMOUS;User:CN={CLIENT}",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": f'{module} required user_{USER}="{PASSWORD}";',
            "listener.name.ssl.ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(certificate),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(authority),
        }
        self.server.start()

    def by_password(self, ca_file: Path, password: str = PASSWORD) -> dict[str, str]:
        """Return the variables of a command that comes by password."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{self.password_port}",
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_USERNAME": USER,
            "KAFKA_SASL_PASSWORD": password,
            "KAFKA_SSL_CA_FILE": str(ca_file),
        }

    def by_certificate(self, ca_file: Path, **certificate: str) -> dict[str, str]:
        """Return the variables of a command that comes by the door that asks for a certificate.

        certificate: what follows KAFKA_SSL_ in the names of the variables of its own.
        """
        return {
            "KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{self.certificate_port}",
            "KAFKA_SECURITY_PROTOCOL": "SSL",
            "KAFKA_SSL_CA_FILE": str(ca_file),
            **{f"KAFKA_SSL_{name}": value for name, value in certificate.items()},
        }

    def allow(self, prefix: str) -> None:
        """Let the user do everything with topics, groups and transactional ids whose names begin so."""
        client = admin_client(self.open)
        kinds = (ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID)
        every = [
            _binding(kind, prefix, AclOperation.ALL, AclPermissionType.ALLOW, ResourcePatternType.PREFIXED)
            for kind in kinds
        ]
        for done in client.create_acls(every).values():
            done.result(30)

    @contextmanager
    def denied(self, kind: ResourceType, name: str, operation: AclOperation) -> Iterator[None]:
        """Deny the user one thing, meanwhile."""
        client = admin_client(self.open)
        binding = _binding(kind, name, operation, AclPermissionType.DENY, ResourcePatternType.LITERAL)
        for done in client.create_acls([binding]).values():
            done.result(30)
        try:
            yield
        finally:
            same = AclBindingFilter(
                *(kind, name, ResourcePatternType.LITERAL, f"User:{USER}", HOST),
                *(operation, AclPermissionType.DENY),
            )
            for gone in client.delete_acls([same]).values():
                gone.result(30)


def _binding(
    kind: ResourceType,
    name: str,
    operation: AclOperation,
    permission: AclPermissionType,
    pattern: ResourcePatternType,
) -> AclBinding:
    return AclBinding(kind, name, pattern, f"User:{USER}", HOST, operation, permission)
