"""An exported encoder with its items' vectors as a model (models/encoder.py)."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from models.adopted.graph_file import graph_bytes
from models.adopted.indices import Indices
from models.adopted.onnx_encoder import OnnxEncoder
from models.adopted.session import PROVIDERS, Session, onnxruntime
from models.adopted.settings import EncoderSettings
from models.arrays import Floats
from models.model_files import ADOPTED, GRAPH, INDICES
from models.threads import thread_limit


class OnnxModel:
    """A graph, what it wants to be fed, and the items (I, D) in its space."""

    def __init__(self, graph: Path, settings: EncoderSettings, indices: Indices, items: Floats) -> None:
        self.settings = settings
        self.indices = indices
        self._graph = graph
        self._items = items
        self._opened: tuple[int, Session] | None = None

    def session(self) -> Session:
        """Return the graph ready to run on the CPU, with as many threads as products may have now."""
        threads = thread_limit()
        if self._opened is None or self._opened[0] != threads:
            self._opened = threads, Session(self._graph, "cpu", threads)
        return self._opened[1]

    def on_cpu(self, kept_vectors: int = 0) -> OnnxEncoder:
        """Return its encoder on the CPU, which keeps nothing."""
        return self._encoder(self.session)

    def on_gpu(self, bfloat16: bool, kept_vectors: int) -> OnnxEncoder | None:
        """Return its encoder on the GPU, None where onnxruntime finds none; it computes as exported."""
        if PROVIDERS["cuda"] not in onnxruntime(self._graph).get_available_providers():
            return None
        session = Session(self._graph, "cuda", thread_limit())
        return self._encoder(lambda: session) if session.device == "cuda" else None

    def item_vectors(self) -> Floats:
        """Return (I, D), the vectors of the known items in the order of the vocabulary."""
        return self._items

    def files(self) -> Mapping[str, bytes]:
        """Return the graph and the indices."""
        return {GRAPH: graph_bytes(self._graph), INDICES: self.indices.to_bytes()}

    def description(self) -> Mapping[str, object]:
        """Return the kind, and how it is fed."""
        return {"encoder": ADOPTED, ADOPTED: asdict(self.settings)}

    def _encoder(self, session: Callable[[], Session]) -> OnnxEncoder:
        mean = self._items.mean(axis=0) if self.settings.cold_start == "mean" else None
        return OnnxEncoder(session, self.settings, self.indices, self._items.shape[1], mean)
