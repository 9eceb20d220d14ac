"""The models that are live, as far as this worker can encode with them, and the store their vectors go to."""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import cached_property

from models.artifact import artifact as artifacts
from models.artifact.artifact import Artifact
from models.artifact.publications import Publication
from models.artifact.stores import Store as ArtifactStore
from models.artifact.stores import open_store, read_version, store_of
from models.artifact.version_cache import VersionCache
from models.errors import ArtifactError, TwintideError
from models.location import BucketUrl, Location
from models.windows.live_inputs import LiveInputs
from models.windows.window import WindowSettings
from stream import metrics
from stream.encoding.encoder import Encoder, open_encoder
from stream.encoding.live_inputs import LiveInputsFollower
from stream.kafka.topics import topic_source
from stream.settings import Settings
from stream.store.clients import redis_client
from stream.store.prefix_source import PrefixSource
from stream.store.user_row import UserRow
from stream.store.vector_store import Store, StoreSettings

#: Makes what encodes with a model.
MakeEncoder = Callable[[Artifact], Encoder]


class ArtifactSource:
    """Where models come from: what is published there, and each of its versions, checked.

    Every call raises ArtifactError where something is missing or damaged, and UnreachableError where a bucket
    does not answer or refuses.
    """

    def __init__(self, where: Location) -> None:
        """`where` is one artifact, which is wanted for ever, or a store's, whose active one is."""
        self._where = where

    @cached_property
    def _followed(self) -> ArtifactStore | None:
        return store_of(self._where)

    @cached_property
    def _store(self) -> ArtifactStore:
        return self._followed or open_store(self._where.parent)

    def wanted(self) -> Publication:
        """Return what is published now."""
        if self._followed is not None:
            return self._followed.current()
        version = read_version(self._where)
        return Publication(version, self._store.publication_of(version))

    def load(self, version: str) -> Artifact:
        """Return a version that encodes its golden users as it should."""
        artifact = artifacts.load(self._place_of(version))
        if artifact.version != version:
            raise ArtifactError(f"model {version} is not at {self._store.where}, where {artifact.version} is")
        artifact.check_golden()
        return artifact

    def _place_of(self, version: str) -> Location:
        """Return where a version is: one by itself may have another name, or have others beside it.

        One that this host has needs no bucket, which may be away.
        """
        if isinstance(self._where, BucketUrl) and (kept := VersionCache().find(version)):
            return kept
        if self._followed is None and read_version(self._where) == version:
            return self._where
        return self._store.directory(version)


def store_settings(settings: Settings) -> StoreSettings:
    """Return what is written of users into Redis, and under which keys."""
    return StoreSettings(
        key_prefix=settings.key_prefix,
        vector_format=settings.vector_format,
        ttl_s=settings.ttl_s,
        short_ttl_s=settings.short_ttl_s,
        history_events=settings.store_history,
    )


def open_live_models(
    settings: Settings, source: ArtifactSource, artifact: Artifact, topic_id: str, partitions: int
) -> "LiveModels":
    """Return the live models that can be loaded, `artifact` among them; where none serves, this one does.

    Raises SettingsError where workers of another topic fill the key prefix.
    Where Redis knows of no model, it may have lost all vectors: then all users are written from state.
    """
    store = Store(
        redis_client(settings.redis),
        store_settings(settings),
        on_foreign=metrics.upserts_total.labels("foreign").inc,
    )
    store.check_server()
    prefix = PrefixSource(
        redis_client(settings.redis), settings.key_prefix, topic_source(settings.kafka, settings.topic)
    )
    prefix.claim()
    inputs = LiveInputsFollower(redis_client(settings.redis), settings.key_prefix)
    live = LiveModels(
        store,
        topic_id,
        artifact.settings.window,
        lambda artifact: open_encoder(settings, artifact),
        inputs,
        prefix.claim,
    )
    live.add(live.make(artifact))
    if store.poll() is None:
        store.registry.request_backfill(range(partitions))
        store.registry.serve(artifact.version, source.wanted().number)
    models = store.poll()
    for model in models.live if models else ():
        if model.version != artifact.version:
            with suppress(TwintideError, RuntimeError, OSError):  # the follower tries again, and says why
                live.add(live.make(source.load(model.version)))
        if model.version in live.loaded:
            live.write_cold_start(model.version)
    inputs.poll()
    inputs.start()
    return live


class LiveModels:
    """One encoder for each live model; a changed user gets a row of every one of them.

    The event loop adds and drops encoders; all else runs in threads beside it. There are never two `rows` at
    a time, nor two `write`, but one beside the other, a sweep's `forget` and the follower's polls of the
    store. So `_encoders` is replaced whole and never changed, and the store takes calls from several threads.
    """

    def __init__(
        self,
        store: Store,
        topic_id: str,
        window_settings: WindowSettings,
        make: MakeEncoder,
        inputs: LiveInputsFollower | None = None,
        claim_prefix: Callable[[], None] = lambda: None,
    ) -> None:
        """`inputs` has what items have become; without it all are encoded as they were trained.

        `claim_prefix` says that we fill the key prefix, and raises SettingsError where others do.
        """
        self.store = store
        self.claim_prefix = claim_prefix
        #: Epoch of the source topic, which goes into every row.
        self.epoch = store.topic_epoch(topic_id)
        self.window_settings = window_settings
        self._topic_id = topic_id
        self._make = make
        self._inputs = inputs
        self._encoders: dict[str, Encoder] = {}

    @property
    def loaded(self) -> frozenset[str]:
        """Return the versions that this worker can encode with."""
        return frozenset(self._encoders)

    @property
    def serving(self) -> str:
        """Return the version that readers get, as far as is known; empty before there is one."""
        return self.store.models.serving.version if self.store.models else ""

    def artifact(self, version: str) -> Artifact | None:
        """Return a model that this worker can encode with, None where it cannot."""
        encoder = self._encoders.get(version)
        return encoder.artifact if encoder else None

    def why_not(self) -> str:
        """Return why nothing can be encoded, empty where it can.

        Vectors of the serving model must not fall behind, unless it is being replaced.
        """
        models = self.store.models
        if models is None:
            return "no model serves yet"
        if models.serving.version in self._encoders or (
            models.staged and models.staged.version in self._encoders
        ):
            return ""
        return f"model {models.serving.version} serves, and this worker could not load it"

    def make(self, artifact: Artifact) -> Encoder:
        """Return an encoder of a model for `add`; ArtifactError where its windows are not those kept here."""
        if artifact.settings.window != self.window_settings:
            raise ArtifactError(
                f"model {artifact.version} wants windows of {artifact.settings.window}, this worker keeps "
                f"{self.window_settings}: restart the workers with it"
            )
        return self._make(artifact)

    def add(self, encoder: Encoder) -> None:
        """Encode with this model too, as soon as it is live."""
        self._encoders = {**self._encoders, encoder.artifact.version: encoder}
        if self._inputs and encoder.reads_live:
            self._inputs.follow(encoder.artifact)

    def keep(self, versions: Collection[str]) -> None:
        """Forget all encoders but those of these versions."""
        self._encoders = {version: each for version, each in self._encoders.items() if version in versions}
        if self._inputs:
            self._inputs.keep(versions)

    def inputs(self, version: str) -> LiveInputs | None:
        """Return what a model's items have become, None where they enter as they were trained."""
        return self._inputs.of(version) if self._inputs else None

    def rows(self, users: Sequence[tuple[str, bytes]], versions: Collection[str] = ()) -> list[UserRow]:
        """Return one row per user and live model, of these versions alone where any are given."""
        models, encoders = self.store.models, self._encoders
        wanted = [model.version for model in models.live] if models else []
        rows: list[UserRow] = []
        for version in wanted:
            if version in encoders and (not versions or version in versions):
                rows += encoders[version].rows(users, self.epoch, self.inputs(version))
        return rows

    def write(self, rows: Sequence[UserRow], forgotten: Sequence[tuple[str, int]] = ()) -> int:
        """Delete forgotten users up to their offsets, write the rows; return how many were written."""
        self.forget(forgotten)
        return self.store.upsert(rows)

    def categories(self, version: str) -> list[str]:
        """Return the categories that a model knows; none where it is not loaded."""
        encoder = self._encoders.get(version)
        return encoder.artifact.vocabulary.category_ids if encoder else []

    def write_cold_start(self, version: str, categories: Sequence[str] = ("",)) -> None:
        """Write what a cold-start user gets of this model at these categories, if it is still loaded."""
        if encoder := self._encoders.get(version):
            self.store.upsert(encoder.cold_start_rows(categories))

    def forget(self, users: Sequence[tuple[str, int]]) -> None:
        """Delete the vectors of these (user id, source offset) that are not newer."""
        self.store.forget(users, self.epoch)

    def renew_epoch(self) -> None:
        """Take up the topic's epoch again: after Redis lost it, another worker may have got a greater one."""
        self.epoch = self.store.topic_epoch(self._topic_id)
