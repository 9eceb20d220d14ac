"""The bytes of an ONNX file, with the weights that its exporter wrote beside it inside."""

from pathlib import Path

from models.errors import ArtifactError

#: What a graph calls the file of weights outside it.
_OUTSIDE = b"location"


def graph_bytes(file: Path) -> bytes:
    """Return the whole graph. Raises ArtifactError where it cannot be read, or is larger than ONNX allows."""
    content = file.read_bytes()
    if _OUTSIDE not in content:
        return content
    try:
        import onnx
    except ImportError as error:
        raise ArtifactError(
            f"{file} has weights outside it, and onnx, which is not installed, must put them inside: "
            "pip install 'twintide[onnx]'"
        ) from error
    try:
        whole: bytes = onnx.load(str(file)).SerializeToString()
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ArtifactError(
            f"{file}: the weights outside it cannot be put inside ({' '.join(str(error).split())[:200]}): "
            "they must lie beside it, and all be smaller than 2 GB"
        ) from error
    return whole
