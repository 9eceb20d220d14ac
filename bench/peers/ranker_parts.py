"""FuxiCTR's and DeepCTR-Torch's parts of DIN and DIEN with given weights: run by their own Python.

    python ranker_parts.py GIVEN.npz FOUND.npz

What is given has the names of `bench.ranker_parts`; what is found is "library:part" -> the part's output.
"""

import sys
from collections.abc import Callable, Mapping

import numpy as np
import torch
from deepctr_torch.layers.activation import Dice as DeepDice
from deepctr_torch.layers.sequence import AttentionSequencePoolingLayer
from deepctr_torch.layers.sequence import DynamicGRU as DeepGRU
from deepctr_torch.models.dien import InterestEvolving, InterestExtractor
from fuxictr.pytorch.layers import Dice, DIN_Attention
from model_zoo.LongCTR.DIEN.DIEN import AttentionLayer, DynamicGRU
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

Given = Mapping[str, Tensor]


def load(module: nn.Module, values: Mapping[str, Tensor]) -> nn.Module:
    """Return the module with these parameters and statistics, all others as they were, as it serves."""
    unknown = module.load_state_dict(dict(values), strict=False).unexpected_keys
    if unknown:
        raise KeyError(f"{type(module).__name__} has no {', '.join(unknown)}")
    return module.eval()


def dice_of(given: Given, prefix: str = "", deep: bool = False) -> dict[str, Tensor]:
    """Return Dice's weights by the names of both libraries; DeepCTR's has an axis more where it is inside."""
    alpha = given["alpha"].unsqueeze(1) if deep else given["alpha"]
    statistics = {"bn.running_mean": given["mean"], "bn.running_var": given["variance"], "alpha": alpha}
    return {f"{prefix}{name}": value for name, value in statistics.items()}


def packed(values: Tensor, given: Given) -> PackedSequence:
    """Return what is real of padded values (B, T, ...)."""
    return pack_padded_sequence(values, given["length"], batch_first=True, enforce_sorted=False)


def by_reset_first(gates: Tensor) -> Tensor:
    """Return the weights of update, reset, new as reset, update, new."""
    update, reset, new = gates.chunk(3)
    return torch.cat([reset, update, new])


def fuxi_attention(given: Given) -> Tensor:
    """Return what a candidate sees of the events (B, D), by the activation unit."""
    units, width = given["layer"].shape
    layers = {"mlp.0.weight": given["layer"], "mlp.0.bias": given["layer_bias"]}
    layers |= {"mlp.2.weight": given["last"], "mlp.2.bias": given["last_bias"]} | dice_of(given, "mlp.1.")
    attention = DIN_Attention(width // 4, [units], hidden_activations="Dice")
    load(attention, {f"attention_layer.{name}": value for name, value in layers.items()})
    found: Tensor = attention(given["query"], given["keys"], given["mask"])
    return found


def fuxi_gru(given: Given, kind: str, weights: Tensor) -> Tensor:
    """Return the last state (B, D) of the second GRU."""
    size = given["of_state"].shape[1]
    gru = load(
        DynamicGRU(size, size, gru_type=kind),
        {
            "gru_cell.x2h.weight": given["of_input"],
            "gru_cell.x2h.bias": given["input_bias"],
            "gru_cell.h2h.weight": given["of_state"],
            "gru_cell.h2h.bias": torch.zeros(3 * size),
        },
    )
    found: Tensor = gru(packed(given["keys"], given), packed(weights, given))[1]
    return found


def fuxi_evolution(given: Given) -> Tensor:
    """Return the last state (B, D) of AUGRU by a bilinear attention."""
    attention = load(AttentionLayer(given["form"].shape[0]), {"W_kernel": given["form"]})
    return fuxi_gru(given, "AUGRU", attention(given["keys"], given["query"], given["mask"]))


def deep_unit(given: Given, prefix: str) -> dict[str, Tensor]:
    """Return the activation unit's weights by DeepCTR's names."""
    layers = {"dnn.linears.0.weight": given["layer"], "dnn.linears.0.bias": given["layer_bias"]}
    layers |= {"dense.weight": given["last"], "dense.bias": given["last_bias"]}
    layers |= dice_of(given, "dnn.activation_layers.0.", deep=True)
    return {f"{prefix}{name}": value for name, value in layers.items()}


def deep_attention(given: Given) -> Tensor:
    """Return what a candidate sees of the events (B, D), by the activation unit."""
    units, width = given["layer"].shape
    pooling = AttentionSequencePoolingLayer((units,), "dice", embedding_dim=width // 4)
    load(pooling, deep_unit(given, "local_att."))
    found: Tensor = pooling(given["query"].unsqueeze(1), given["keys"], given["length"].unsqueeze(1))
    return found.squeeze(1)


def deep_cell(given: Given, prefix: str, with_bias: bool) -> dict[str, Tensor]:
    """Return the second GRU's weights by DeepCTR's names, which has a second bias; ours is 0 there."""
    scale = float(with_bias)
    return {
        f"{prefix}weight_ih": by_reset_first(given["of_input"]),
        f"{prefix}weight_hh": by_reset_first(given["of_state"]),
        f"{prefix}bias_hh": torch.zeros_like(given["input_bias"]),
        f"{prefix}bias_ih": by_reset_first(given["input_bias"]) * scale,
    }


def deep_gru(given: Given, kind: str, with_bias: bool) -> Tensor:
    """Return the last state (B, D) of the second GRU; without a bias, as its two are one tensor in AUGRU."""
    size = given["of_state"].shape[1]
    gru = load(DeepGRU(size, size, gru_type=kind), deep_cell(given, "rnn.", with_bias))
    found = gru(packed(given["keys"], given), packed(given["weights"], given))
    states, lengths = nn.utils.rnn.pad_packed_sequence(found, batch_first=True)
    last: Tensor = states[torch.arange(len(lengths)), lengths - 1]
    return last


def deep_evolution(given: Given) -> Tensor:
    """Return the last state (B, D) of AUGRU by the activation unit with a softmax, without a bias."""
    units, width = given["layer"].shape
    evolving = InterestEvolving(width // 4, "AUGRU", False, 0.001, (units,), "dice", True)
    cell = deep_cell(given, "interest_evolution.rnn.", with_bias=False)
    load(evolving, deep_unit(given, "attention.local_att.") | cell)
    found: Tensor = evolving(given["query"], given["keys"], given["length"])
    return found


class Fit(nn.Module):
    """Whether an item comes next, by its dot product with a state: instead of DeepCTR's layers."""

    def forward(self, both: Tensor) -> Tensor:
        """Return (N, 1) of states and items side by side (N, 2 D)."""
        state, item = both.chunk(2, dim=-1)
        return torch.sigmoid((state * item).sum(dim=-1, keepdim=True))


def deep_auxiliary(given: Given) -> Tensor:
    """Return DIEN's auxiliary loss (1,), twice: it is a mean over chosen and drawn items together."""
    extractor = InterestExtractor(given["of_state"].shape[1], use_neg=True)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    load(extractor, {f"gru.{name}": given[name] for name in names})
    extractor.auxiliary_net = Fit()
    found: Tensor = extractor(given["keys"], given["length"], given["drawn"])[1]
    return 2 * found.reshape(1)


PARTS: Mapping[str, Callable[[Given], Tensor]] = {
    "FuxiCTR:dice": lambda given: load(Dice(len(given["alpha"])), dice_of(given))(given["values"]),
    "FuxiCTR:activation unit": fuxi_attention,
    "FuxiCTR:augru": lambda given: fuxi_gru(given, "AUGRU", given["weights"]),
    "FuxiCTR:agru": lambda given: fuxi_gru(given, "AGRU", given["weights"]),
    "FuxiCTR:interest evolution": fuxi_evolution,
    "DeepCTR-Torch:dice": lambda given: load(DeepDice(len(given["alpha"])), dice_of(given))(given["values"]),
    "DeepCTR-Torch:activation unit": deep_attention,
    "DeepCTR-Torch:augru": lambda given: deep_gru(given, "AUGRU", True),
    "DeepCTR-Torch:augru without bias": lambda given: deep_gru(given, "AUGRU", False),
    "DeepCTR-Torch:agru": lambda given: deep_gru(given, "AGRU", True),
    "DeepCTR-Torch:evolution by the unit": deep_evolution,
    "DeepCTR-Torch:auxiliary loss, twice": deep_auxiliary,
}


def main(given_file: str, found_file: str) -> None:
    """Compute every part."""
    given = {name: torch.from_numpy(value) for name, value in np.load(given_file).items()}
    with torch.no_grad():
        found = {name: part(given).numpy() for name, part in PARTS.items()}
    np.savez(found_file, **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
