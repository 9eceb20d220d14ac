"""`./run bench ranker-parts`: parts of DIN and DIEN with the same weights in FuxiCTR and DeepCTR-Torch."""

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bench.peers.fuxictr_run import peer_python
from models.arrays import Floats
from models.command import Command, log_to_stderr
from models.errors import TwintideError
from models.rankers.attention import Attention, Bilinear, Mlp
from models.rankers.dien import evolve, next_event_loss
from models.rankers.layers import Dice

PEER = Path(__file__).with_name("peers") / "ranker_parts.py"
#: Users, places, length of vectors, units, and how many events each user has.
USERS, EVENTS, DIMENSION, UNITS = 5, 7, 8, 6
LENGTHS = (7, 1, 2, 5, 3)
#: What is the same.
TOLERANCE = 1e-5
#: What differs by more, and why. The auxiliary loss is theirs twice: one mean over chosen and drawn together.
EXPLAINED = {
    "DeepCTR-Torch:augru": "its AUGRU cell registers bias_hh under the name of bias_ih too: one bias enters "
    "twice, and that of the inputs cannot be set",
}

Tensors = Mapping[str, Tensor]


@click.command(cls=Command, context_settings={"max_content_width": 110})
def main() -> None:
    """Compute Dice, the activation unit, AUGRU, AGRU, interest evolution and the auxiliary loss by the same
    weights here and in both libraries, which run in an environment of their own; say how far they are apart.

    Exits with 1 where a part is apart by more than 1e-5 and no reason is known, or a known difference is not.

    \b
    Example: ./run bench ranker-parts
    """
    log_to_stderr()
    given = make_given()
    apart = {name: _apart(ours_of(name, given), found) for name, found in theirs(given).items()}
    table = Table("", "apart by", "why", title=f"parts of DIN and DIEN, the same to {TOLERANCE}")
    for name, value in apart.items():
        table.add_row(name.replace(":", ": "), f"{value:.1e}", EXPLAINED.get(name, ""))
    Console(width=110).print(table)
    wrong = [name for name, value in apart.items() if (value > TOLERANCE) != (name in EXPLAINED)]
    if wrong:
        raise TwintideError(f"no longer as it was: {', '.join(wrong)}")


def make_given() -> dict[str, Tensor]:
    """Return inputs and weights by name, none of them near 0."""
    torch.manual_seed(5)
    sizes = {
        "values": (USERS, UNITS), "alpha": (UNITS,), "mean": (UNITS,), "query": (USERS, DIMENSION),
        "keys": (USERS, EVENTS, DIMENSION), "drawn": (USERS, EVENTS, DIMENSION),
        "form": (DIMENSION, DIMENSION),
        "layer": (UNITS, 4 * DIMENSION), "layer_bias": (UNITS,), "last": (1, UNITS), "last_bias": (1,),
        "of_input": (3 * DIMENSION, DIMENSION), "input_bias": (3 * DIMENSION,),
        "of_state": (3 * DIMENSION, DIMENSION), "weight_ih_l0": (3 * DIMENSION, DIMENSION),
        "weight_hh_l0": (3 * DIMENSION, DIMENSION), "bias_ih_l0": (3 * DIMENSION,),
        "bias_hh_l0": (3 * DIMENSION,),
    }  # fmt: skip
    given = {name: torch.randn(size) * 0.5 for name, size in sizes.items()}
    given["variance"] = torch.rand(UNITS) + 0.3
    given["length"] = torch.tensor(LENGTHS)
    mask = torch.arange(EVENTS) < given["length"].unsqueeze(1)  # (B, T)
    given["mask"] = mask.float()
    given["weights"] = torch.softmax(torch.randn(USERS, EVENTS).masked_fill(~mask, -1e9), dim=1)
    given["keys"] = given["keys"] * mask.unsqueeze(2)
    return given


def theirs(given: Tensors) -> dict[str, Floats]:
    """Return what both libraries find, by "library:part". TwintideError where they cannot be run."""
    python = peer_python("there is no other way to compare")
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "given.npz", Path(folder) / "found.npz"
        arrays = {name: value.numpy() for name, value in given.items()}
        np.savez(files[0], **arrays)  # type: ignore[arg-type]
        done = subprocess.run([str(python), str(PEER), *map(str, files)], capture_output=True, text=True)
        if done.returncode:
            raise TwintideError(f"the libraries failed with {done.returncode}: {done.stderr.strip()[-300:]}")
        return dict(np.load(files[1]))


def ours_of(name: str, given: Tensors) -> Tensor:
    """Return what our part finds for what a library calls so."""
    with torch.no_grad():
        match name.partition(":")[2]:
            case "dice":
                return torch.Tensor(_dice(given)(given["values"]))
            case "activation unit":
                return _seen(_unit(given, softmax=False), given)[0]
            case "augru":
                return _evolved(given, given["weights"], evolution=0)
            case "augru without bias":
                return _evolved(_without_bias(given), given["weights"], evolution=0)
            case "agru":
                return _evolved(given, given["weights"], evolution=2)
            case "interest evolution":
                bilinear = Bilinear(DIMENSION, softmax=True)
                bilinear.form.copy_(given["form"])
                return _evolved(given, _seen(bilinear, given)[1], evolution=0)
            case "evolution by the unit":
                return _evolved(
                    _without_bias(given), _seen(_unit(given, softmax=True), given)[1], evolution=0
                )
            case "auxiliary loss, twice":
                return _auxiliary_loss(given)
    raise KeyError(name)


def _dice(given: Tensors) -> Dice:
    dice = Dice(UNITS).eval()
    dice.load_state_dict({name: given[name] for name in ("alpha", "mean", "variance")})
    return dice


def _unit(given: Tensors, softmax: bool) -> Mlp:
    unit = Mlp(DIMENSION, softmax, UNITS).eval()
    unit.dice = _dice(given)
    layers = {
        "layer.weight": "layer",
        "layer.bias": "layer_bias",
        "last.weight": "last",
        "last.bias": "last_bias",
    }
    unit.load_state_dict({name: given[value] for name, value in layers.items()}, strict=False)
    return unit


def _seen(attention: Attention, given: Tensors) -> tuple[Tensor, Tensor]:
    """Return what the candidates see (B, D), and the weights (B, T)."""
    made = attention.keys_of(given["keys"])
    seen, weights = attention(given["query"].unsqueeze(1), made, given["mask"] > 0)
    return seen.squeeze(1), weights.squeeze(1)


def _evolved(given: Tensors, weights: Tensor, evolution: int) -> Tensor:
    """Return the last state (B, D) of the second GRU."""
    entering = given["keys"] @ given["of_input"].T
    gru = given["input_bias"], given["of_state"].T, weights.unsqueeze(1), given["mask"]
    found: Tensor = evolve(entering, *gru, torch.tensor(evolution))
    return found.squeeze(1)


def _without_bias(given: Tensors) -> Tensors:
    return {**given, "input_bias": torch.zeros_like(given["input_bias"])}


def _auxiliary_loss(given: Tensors) -> Tensor:
    """Return DIEN's auxiliary loss (1,), by the first GRU's states."""
    gru = torch.nn.GRU(DIMENSION, DIMENSION, batch_first=True)
    gru.load_state_dict({name: given[name] for name in gru.state_dict()})
    interests = gru(given["keys"])[0][:, :-1]
    later = (given[name][:, 1:] for name in ("keys", "drawn", "mask"))
    found: Tensor = next_event_loss(interests, *later)
    return found.reshape(1)


def _apart(ours: Tensor, found: Floats) -> float:
    if tuple(ours.shape) != found.shape:
        raise TwintideError(f"ours has the shape {tuple(ours.shape)}, theirs {found.shape}")
    return float(np.abs(ours.numpy() - found).max())


if __name__ == "__main__":
    main(prog_name="./run bench ranker-parts")
