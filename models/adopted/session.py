"""An ONNX graph as onnxruntime runs it; what cannot be run is refused in one line."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.adopted.columns import Input
from models.errors import ArtifactError

#: onnxruntime's name of where it computes.
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_TYPES: dict[str, np.dtype[Any]] = {
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(float16)": np.dtype(np.float16),
}
#: Below what is fatal, onnxruntime says nothing by itself: what it raises is said once, by us.
_FATAL = 4


@dataclass(frozen=True, slots=True)
class Port:
    """An input or an output: its type, and its axes, None where an axis is as long as one likes."""

    type: np.dtype[Any]
    shape: tuple[int | None, ...]


class Session:
    """A graph that is ready to run."""

    def __init__(self, file: Path, device: str, threads: int) -> None:
        """device: cpu or cuda. Raises ArtifactError, naming the file, where it cannot be run."""
        runtime = onnxruntime(file)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _FATAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._errors = _errors()
        try:
            self._session = runtime.InferenceSession(str(file), options, providers=[PROVIDERS[device]])
        except self._errors as error:
            raise ArtifactError(
                f"{file} cannot be run by onnxruntime {runtime.__version__}: {_first_line(error)}"
            ) from error
        self.inputs = {each.name: _port(file, each) for each in self._session.get_inputs()}
        self.outputs = {each.name: _port(file, each) for each in self._session.get_outputs()}

    @property
    def device(self) -> str:
        """Return where it really runs: cuda, or cpu."""
        return "cuda" if PROVIDERS["cuda"] in self._session.get_providers() else "cpu"

    def run(self, feed: Mapping[str, Input]) -> dict[str, Any]:
        """Return the outputs by name. Raises RuntimeError where it fails."""
        try:
            found = self._session.run(list(self.outputs), dict(feed))
        except self._errors as error:
            raise RuntimeError(f"onnxruntime: {_first_line(error)}") from error
        return dict(zip(self.outputs, found, strict=True))


def onnxruntime(file: Path) -> Any:
    """Return the module. Raises ArtifactError where it is not installed; `file` is what needs it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ArtifactError(
            f"{file} needs onnxruntime, which is not installed: pip install 'twintide[onnx]'"
        ) from error
    return onnxruntime


def _errors() -> tuple[type[Exception], ...]:
    """Return all that onnxruntime raises; its errors have no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [each for each in vars(state).values() if isinstance(each, type) and issubclass(each, Exception)]
    return (*own, ValueError, RuntimeError)


def _port(file: Path, port: Any) -> Port:
    if port.type not in _TYPES:
        raise ArtifactError(
            f"{file}: {port.name} is of type {port.type}; use {', '.join(_TYPES)}: export it with a cast"
        )
    return Port(_TYPES[port.type], tuple(axis if isinstance(axis, int) else None for axis in port.shape))


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
