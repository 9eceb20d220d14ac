"""Whether an encoder has the inputs and outputs of the contract, and how wide its rows are."""

from pathlib import Path

from models.adopted.onnx_encoder import OUTPUTS
from models.adopted.session import Port, Session
from models.adopted.settings import INPUTS
from models.errors import ArtifactError


def check_ports(file: Path, session: Session, dimension: int, has_categories: bool) -> int:
    """Return the places of a row (T) that the graph fixes, 0 where it does not.

    dimension: that of the items' vectors. Raises ArtifactError, naming the file, where anything is missing.
    """
    _check_names(file, session, has_categories)
    widths = {_width(file, name, port) for name, port in session.inputs.items() if name != "length"}
    if "length" in session.inputs and len(session.inputs["length"].shape) != 1:
        raise ArtifactError(
            f"{file}: `length` has {len(session.inputs['length'].shape)} axes; it must be (users,)"
        )
    fixed = {width for width in widths if width}
    if len(fixed) > 1:
        raise ArtifactError(f"{file}: its inputs are {' and '.join(map(str, sorted(fixed)))} places wide")
    for name in OUTPUTS:
        if name in session.outputs:
            _check_output(file, name, session.outputs[name], dimension)
    return max(fixed, default=0)


def _check_names(file: Path, session: Session, has_categories: bool) -> None:
    inputs, outputs = list(session.inputs), list(session.outputs)
    if "item" not in inputs:
        raise ArtifactError(
            f"{file} has no input `item`, only {', '.join(inputs)}: name it when you export (input_names)"
        )
    for name in inputs:
        if name not in INPUTS:
            raise ArtifactError(
                f"{file} has an input `{name}`, which nothing fills: there are {', '.join(INPUTS)}; rename "
                "it, or make it a constant"
            )
    if "user" not in outputs:
        raise ArtifactError(
            f"{file} has no output `user`, only {', '.join(outputs)}: name it when you export (output_names)"
        )
    if "category" in inputs and not has_categories:
        raise ArtifactError(f"{file} has an input `category`, and the vocabulary names no categories")


def _width(file: Path, name: str, port: Port) -> int:
    """Return the fixed width of an input, 0 where it is free."""
    if len(port.shape) != 2:
        raise ArtifactError(f"{file}: `{name}` has {len(port.shape)} axes; it must be (users, events)")
    if port.shape[0] is not None:
        raise ArtifactError(
            f"{file}: `{name}` takes {port.shape[0]} users at a time: export it with a dynamic first axis "
            "(dynamic_axes or dynamic_shapes)"
        )
    return port.shape[1] or 0


def _check_output(file: Path, name: str, port: Port, dimension: int) -> None:
    if len(port.shape) != 2:
        raise ArtifactError(f"{file}: `{name}` has {len(port.shape)} axes; it must be (users, dimensions)")
    if port.shape[1] not in (None, dimension):
        raise ArtifactError(
            f"{file}: `{name}` has {port.shape[1]} dimensions, the items have {dimension}: both must lie in "
            "one space"
        )
