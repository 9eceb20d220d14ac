"""Changed users' windows -> rows for the store."""

import logging
from collections.abc import Sequence

import numpy as np

from models.artifact.artifact import Artifact
from models.encoder import UserEncoder, Vectors
from models.errors import SettingsError
from models.threads import limit_threads
from models.windows.histories import Histories, histories_of_cold_start, histories_of_windows
from models.windows.live_inputs import LiveInputs
from models.windows.window import DAY_MS, Window, read_offset, window_to_bytes
from stream import metrics
from stream.settings import Settings
from stream.store.keys import COLD_START_USER
from stream.store.user_row import UserRow

logger = logging.getLogger(__name__)

#: Events of the user that a warm-up makes up.
WARM_UP_EVENTS = 30


class Encoder:
    """Encodes users with one artifact; `rows` runs off the event loop, in one thread at a time."""

    def __init__(
        self, artifact: Artifact, on_device: UserEncoder | None = None, kept_vectors: int = 1
    ) -> None:
        """`on_device` encodes on a device of its own, whose failure leaves all further work to the CPU."""
        self.artifact = artifact
        self._on_cpu = artifact.model.on_cpu(kept_vectors)
        self._encoder = on_device or self._on_cpu
        self._has_warned = False

    @property
    def reads_live(self) -> bool:
        """Whether it can read what items have become; else all enter as they were trained."""
        return self._encoder.reads_live

    def rows(
        self, users: Sequence[tuple[str, bytes]], epoch: int, live: LiveInputs | None = None
    ) -> list[UserRow]:
        """Return one row per (user id, window's value), in order; epoch is that of their source topic.

        live: what items have become, if that is known. A user whose vectors are not all numbers has no row.
        """
        if not users:
            return []
        live = live if self.reads_live else None
        user_ids, windows = zip(*users, strict=True)
        histories = histories_of_windows(windows, self.artifact.vocabulary, live)
        made_before = dict(self._encoder.made)
        vectors = self._encode(histories, user_ids)
        for part, made in self._encoder.made.items():
            metrics.encoded_users_total.labels(part).inc(max(made - made_before.get(part, 0), 0))
        metrics.encoded_inputs_total.labels("live" if live else "trained").inc(len(users))
        columns = zip(
            *(user_ids, vectors.user, vectors.long, vectors.short, windows),
            *(histories.newest_ms().tolist(), np.diff(histories.starts).tolist()),
            strict=True,
        )
        rows = [
            UserRow(
                user_id=user_id,
                vec=vec,
                long=long,
                short=short,
                model=self.artifact.version,
                epoch=epoch,
                seq=read_offset(window),
                ts=newest_ms,
                n=events,
                window=window,
                inputs=live.number if live else "",
            )
            for user_id, vec, long, short, window, newest_ms, events in columns
        ]
        return self._finite(rows, vectors)

    def warm_up(self) -> None:
        """Encode a made-up user, not counted: no event should wait the seconds that compiling takes."""
        days = range(WARM_UP_EVENTS)  # far apart, so that both towers have something to read
        nothing, ones = [""] * len(days), [1] * len(days)
        window = Window(
            "", 0, 0, len(days), 0, 0, [day * DAY_MS for day in days], ones, nothing, nothing, ones
        )
        self._encode(histories_of_windows([window_to_bytes(window)], self.artifact.vocabulary), [""])
        self._encoder.forget()

    def _encode(self, histories: Histories, user_ids: Sequence[str] = ()) -> Vectors:
        try:
            return self._encoder.encode(histories, user_ids)
        except RuntimeError as error:  # what a device raises, out of memory included
            if self._encoder is self._on_cpu:
                raise
            metrics.device_failures_total.inc()
            logger.error("the device has failed (%s): encoding on the CPU until the next start", error)
            self._encoder = self._on_cpu
            return self._encode(histories, user_ids)

    def cold_start_rows(self, categories: Sequence[str] = ("",)) -> list[UserRow]:
        """Return what a cold-start user gets at each of these categories; at "", where none is known."""
        vectors = self._encode(histories_of_cold_start(categories, self.artifact.vocabulary))
        columns = zip(categories, vectors.user, vectors.long, vectors.short, strict=True)
        rows = [
            UserRow(
                user_id=COLD_START_USER,
                vec=vec,
                long=long,
                short=short,
                model=self.artifact.version,
                epoch=0,
                seq=0,
                ts=0,
                n=0,
                category=category,
            )
            for category, vec, long, short in columns
        ]
        return self._finite(rows, vectors)

    def _finite(self, rows: list[UserRow], vectors: Vectors) -> list[UserRow]:
        """Return the rows of vectors that are numbers throughout; others are counted, and said once.

        A NaN would rank all items anyhow; the vector that is in the store stays, and is older.
        """
        parts = vectors.user, vectors.long, vectors.short
        is_finite = np.logical_and.reduce([np.isfinite(part).all(axis=1) for part in parts])
        if is_finite.all():
            return rows
        wrong = np.flatnonzero(~is_finite)
        metrics.not_finite_vectors_total.inc(len(wrong))
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "model %s gives a vector with NaN or infinity to user %s (%d events): such vectors are not "
                "written, and counted in twintide_not_finite_vectors_total",
                *(self.artifact.version, rows[wrong[0]].user_id, rows[wrong[0]].n),
            )
        return [row for row, is_kept in zip(rows, is_finite, strict=True) if is_kept]


def open_encoder(settings: Settings, artifact: Artifact) -> Encoder:
    """Return an encoder with this artifact, on the GPU where there is one and the settings want it."""
    if settings.torch_threads:
        limit_threads(settings.torch_threads)
    on_gpu = None
    if settings.device != "cpu":
        on_gpu = artifact.model.on_gpu(settings.bfloat16, settings.kept_vectors)
    if settings.device == "cuda" and on_gpu is None:
        raise SettingsError(
            f"TWINTIDE_DEVICE is cuda, but model {artifact.version} finds no GPU: use auto or cpu"
        )
    encoder = Encoder(artifact, on_gpu, settings.kept_vectors)
    encoder.warm_up()
    if artifact.settings.live_items.is_on and not encoder.reads_live:
        logger.warning(
            "model %s: on a GPU items enter users' vectors as they were trained, also where an item learner "
            "runs (TWINTIDE_DEVICE=cpu reads what it has learned)",
            artifact.version,
        )
    return encoder
