"""The registry's schemas by their ids: each is asked for once, and one that is not there now and then."""

import logging
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka.schema_registry.error import SchemaRegistryError

from models.errors import SettingsError, UnreachableError
from stream import metrics
from stream.registry.connection import RegistryConnection

logger = logging.getLogger(__name__)

#: What the registry's error codes say: there is no such schema, subject, version.
NOT_THERE = (40401, 40402, 40403)
#: Answers of a registry that will answer otherwise later, or to somebody else.
REFUSED, LATER = (401, 403), (408, 425, 429)
#: How long an id that the registry does not know is not asked for again (s), and how many of them are kept.
FORGET_AFTER_S, KEPT_UNKNOWN = 30.0, 10_000
#: An id of which every registry knows that it is not there.
NO_ID = 2**31 - 1


class RegistryDownError(UnreachableError):
    """The registry does not say what a schema is; it may later."""


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema of the registry; references: those that it refers to, by the names it has for them."""

    #: AVRO, PROTOBUF or JSON.
    kind: str
    text: str
    references: dict[str, "RegisteredSchema"] = field(default_factory=dict)

    def all_references(self) -> dict[str, str]:
        """Return the texts of all schemas that this one needs, the needed before those that need them."""
        found: dict[str, str] = {}
        for name, each in self.references.items():
            found |= each.all_references() | {name: each.text}
        return found


class Schemas:
    """Asks the registry."""

    def __init__(self, connection: RegistryConnection, clock: Callable[[], float] = time.monotonic) -> None:
        if not connection.url:
            raise SettingsError(
                "SCHEMA_REGISTRY_URL is not set: the format's events are encoded by the schemas of a registry"
            )
        self._name, self._client, self._clock = connection.name, connection.client(), clock
        weakref.finalize(self, self._client.__exit__, None, None, None)
        self._found: dict[int, RegisteredSchema] = {}
        self._unknown: dict[int, float] = {}

    def check(self) -> None:
        """Raise SettingsError where the registry does not let us in; say so where it is down."""
        try:
            self._ask(lambda: self._client.get_schema(NO_ID))
        except RegistryDownError as error:
            if "refuses" in str(error):
                raise SettingsError(str(error)) from error
            logger.warning("%s; reading begins as soon as it answers", error)

    def schema(self, schema_id: int) -> RegisteredSchema | None:
        """Return the schema of an id, None where there is none; RegistryDownError where nobody says."""
        if schema_id in self._found:
            return self._found[schema_id]
        if self._clock() < self._unknown.get(schema_id, 0.0):
            return None
        given = self._ask(lambda: self._client.get_schema(schema_id)) if schema_id > 0 else None
        found = given and self._with_references(given)
        if found:
            self._found[schema_id] = found
            return found
        if len(self._unknown) >= KEPT_UNKNOWN:
            self._unknown.clear()
        self._unknown[schema_id] = self._clock() + FORGET_AFTER_S
        return None

    def register(self, subject: str, text: str, kind: str) -> int:
        """Return the id of a schema, which the registry gets where it does not have it.

        Raises UnreachableError where it is down, SettingsError where it does not take the schema.
        """
        from confluent_kafka.schema_registry import Schema

        found = self._ask(lambda: self._client.register_schema(subject, Schema(text, kind)), is_said=True)
        return int(found)

    def _with_references(self, given: Any) -> RegisteredSchema | None:
        references = {}
        for each in given.references or ():
            version = self._ask(lambda each=each: self._client.get_version(each.subject, each.version))  # type: ignore[misc]
            found = version and self._with_references(version.schema)
            if not found:
                return None
            references[each.name] = found
        return RegisteredSchema(given.schema_type or "AVRO", given.schema_str or "", references)

    def _ask(self, ask: Callable[[], Any], *, is_said: bool = False) -> Any:
        """Return what the registry answers, None where there is no such thing.

        is_said: what it does not take is an error.
        """
        try:
            answer = ask()
        except SchemaRegistryError as error:
            self._judge(error, is_said)
            answer = None
        except Exception as error:  # whatever its HTTP client raises
            self._say_down(f"does not answer ({type(error).__name__}: {error})", error)
        metrics.schema_registry_down.set(0)
        return answer

    def _judge(self, error: SchemaRegistryError, is_said: bool) -> None:
        status = error.http_status_code
        if status in REFUSED:
            self._say_down(f"refuses us ({status}): see SCHEMA_REGISTRY_USERNAME and _TOKEN", error)
        if status >= 500 or status in LATER or (status == 404 and error.error_code not in NOT_THERE):
            self._say_down(f"answers {status} ({error.error_message:.200}), as none does that is up", error)
        if is_said:
            raise SettingsError(
                f"the schema registry at {self._name} does not take the schema ({error.error_message:.300})"
            ) from error

    def _say_down(self, what: str, error: Exception) -> None:
        metrics.schema_registry_down.set(1)
        raise RegistryDownError(f"the schema registry at {self._name} {what}") from error
