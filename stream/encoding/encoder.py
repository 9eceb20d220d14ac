"""Changed users' windows -> rows for the store."""

import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch

from models.artifact.artifact import Artifact
from models.errors import SettingsError
from models.inference.cuda_graphs import GraphedTowers
from models.inference.inference import Inference, Vectors
from models.inference.long_vector_cache import LongVectorCache
from models.windows.histories import histories_of_cold_start, histories_of_windows
from models.windows.window import DAY_MS, Window, read_offset, window_from_bytes, window_to_bytes
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
        self,
        artifact: Artifact,
        inference: Inference | None = None,
        kept_vectors: int = 1,
        *,
        with_history: bool = False,
    ) -> None:
        """`inference` encodes on a device of its own, whose failure leaves all further work to the CPU.

        `with_history` has the rows say which items the window holds.
        """
        self.artifact = artifact
        self._inference = inference or artifact.inference
        self._with_history = with_history
        self._long_vectors = LongVectorCache(kept_vectors, artifact.inference.dimension)

    def rows(self, users: Sequence[tuple[str, bytes]], epoch: int) -> list[UserRow]:
        """Return one row per (user id, window's value), in order; epoch is that of their source topic."""
        if not users:
            return []
        user_ids, windows = zip(*users, strict=True)
        histories = histories_of_windows(windows, self.artifact.vocabulary)
        made_before = self._long_vectors.made
        vectors = self._encode(
            lambda inference: inference.encode_pass(histories, user_ids, self._long_vectors)
        )
        metrics.encoded_users_total.labels("short").inc(len(users))
        metrics.encoded_users_total.labels("long").inc(self._long_vectors.made - made_before)
        columns = zip(
            *(user_ids, vectors.user, vectors.long, vectors.short, windows),
            *(histories.newest_ms().tolist(), np.diff(histories.starts).tolist()),
            strict=True,
        )
        return [
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
                history=window_from_bytes(window).item_ids if self._with_history else (),
            )
            for user_id, vec, long, short, window, newest_ms, events in columns
        ]

    def warm_up(self) -> None:
        """Encode a made-up user, not counted: no event should wait the seconds that compiling takes."""
        days = range(WARM_UP_EVENTS)  # far apart, so that both towers have something to read
        nothing, ones = [""] * len(days), [1] * len(days)
        window = Window(
            "", 0, 0, len(days), 0, 0, [day * DAY_MS for day in days], ones, nothing, nothing, ones
        )
        histories = histories_of_windows([window_to_bytes(window)], self.artifact.vocabulary)
        cache = LongVectorCache(1, self.artifact.inference.dimension)
        self._encode(lambda inference: inference.encode_pass(histories, [""], cache))

    def _encode(self, encode: Callable[[Inference], Vectors]) -> Vectors:
        try:
            return encode(self._inference)
        except RuntimeError as error:  # what PyTorch raises for a device, out of memory included
            if self._inference is self.artifact.inference:
                raise
            metrics.device_failures_total.inc()
            logger.error("the device has failed (%s): encoding on the CPU until the next start", error)
            self._inference = self.artifact.inference
            self._long_vectors.clear()  # the device's may be less precise
            return self._encode(encode)

    def cold_start_rows(self, categories: Sequence[str] = ("",)) -> list[UserRow]:
        """Return what a cold-start user gets at each of these categories; at "", where none is known."""
        histories = histories_of_cold_start(categories, self.artifact.vocabulary)
        vectors = self._encode(lambda inference: inference.encode(histories))
        return [
            UserRow(
                user_id=COLD_START_USER,
                vec=vectors.user[place],
                long=vectors.long[place],
                short=vectors.short[place],
                model=self.artifact.version,
                epoch=0,
                seq=0,
                ts=0,
                n=0,
                category=category,
            )
            for place, category in enumerate(categories)
        ]


def open_encoder(settings: Settings, artifact: Artifact) -> Encoder:
    """Return an encoder with this artifact, on the GPU where there is one and the settings want it."""
    if settings.torch_threads:
        torch.set_num_threads(settings.torch_threads)
    has_gpu = torch.cuda.is_available()
    if settings.device == "cuda" and not has_gpu:
        raise SettingsError("TWINTIDE_DEVICE is cuda, but PyTorch finds no GPU: use auto or cpu")
    on_gpu = None
    if has_gpu and settings.device != "cpu":
        path = GraphedTowers(artifact.towers, settings.bfloat16)
        on_gpu = Inference(artifact.towers, artifact.settings.features, path)
    encoder = Encoder(artifact, on_gpu, settings.kept_vectors, with_history=settings.store_history > 0)
    encoder.warm_up()
    return encoder
