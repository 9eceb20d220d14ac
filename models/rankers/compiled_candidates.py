"""Candidates by machine code instead of their graph, in a fraction of its time; needs no torch."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from models.arrays import Floats, Ints
from models.quantised import dequantised
from models.rankers.features import USER_FEATURES
from models.rankers.kernels import DiceForm, UnitForm, activation, dice, evolve
from models.rankers.settings import RankerSettings

#: Below what no variance is, as in layers.py.
EPSILON = 1e-8
#: Fewer candidates of a user than this are not worth another thread.
LEAST_OF_A_THREAD = 64
#: How attention enters DIEN's second GRU, by its number.
_EVOLUTIONS = {"augru": 0, "aigru": 1, "agru": 2}


class See(Protocol):
    """What a kind makes of one user's state, by name, for candidates' vectors (C, D)."""

    def __call__(self, state: Mapping[str, Floats], vectors: Floats) -> tuple[Floats, Floats]:
        """Return what the layers that score read beside the candidates (C, R), and the attention (C, T)."""


class CompiledCandidates:
    """Scores candidates as the graph of the same weights does, parts of one user's in a thread each."""

    def __init__(self, settings: RankerSettings, weights: Mapping[str, Floats], threads: int = 1) -> None:
        """weights: the ranker's own, by name. The settings are some for which `can_compile`."""
        kinds: dict[str, Callable[[RankerSettings, Mapping[str, Floats]], See]]
        kinds = {"din": _Din, "dsin": _Dsin, "dien": _Dien}
        self._tables = _Table(weights, "vectors.item"), _Table(weights, "vectors.category")
        self._see = kinds[settings.kind](settings, weights)
        self._scorer = _Scorer(weights, settings.dimension)
        self._threads = threads
        #: Threads beside the caller's, and the process that they are of.
        self._others: ThreadPoolExecutor | None = None
        self._process = 0

    def run(self, feed: Mapping[str, Floats | Ints]) -> dict[str, Floats]:
        """Return score (B, C) and attention (B, C, T) of what the graph is fed. Raises RuntimeError."""
        for indices, table in zip(
            (feed["candidate_item"], feed["candidate_category"]), self._tables, strict=True
        ):
            if indices.size and not (indices.min() >= 0 and indices.max() < len(table)):
                raise RuntimeError(f"a candidate's index is {indices.max()}, of {len(table)} that there are")
        score, attention = [], []
        for user in range(len(feed["candidate_item"])):
            found = self._scored({name: each[user] for name, each in feed.items()})
            score.append(np.concatenate([part for part, _ in found]))
            attention.append(np.concatenate([part for _, part in found]))
        return {"score": np.stack(score), "attention": np.stack(attention)}

    def _scored(self, state: Mapping[str, Floats]) -> list[tuple[Floats, Floats]]:
        """Return the scores and the attention of a user's candidates, in parts; the first is made here."""
        first, *rest = self._parts(len(state["candidate_item"]))
        others = [self._helpers().submit(self._part, state, part) for part in rest]
        return [self._part(state, first), *(other.result() for other in others)]

    def _helpers(self) -> ThreadPoolExecutor:
        """Return the threads beside the caller's: a process that was forked has none of those before."""
        if self._others is None or self._process != os.getpid():
            self._others = ThreadPoolExecutor(self._threads - 1, "candidates")
            self._process = os.getpid()
        return self._others

    def _parts(self, candidates: int) -> Iterator[slice]:
        """Yield a part of about as many for each thread; one where there are few."""
        count = max(1, min(self._threads, candidates // LEAST_OF_A_THREAD))
        ends = [candidates * number // count for number in range(count + 1)]
        yield from map(slice, ends[:-1], ends[1:])

    def _part(self, state: Mapping[str, Floats], part: slice) -> tuple[Floats, Floats]:
        """Return the scores (C,) and the attention (C, T) of some of a user's candidates."""
        chosen = (state[name][part] for name in ("candidate_item", "candidate_category"))
        vectors = np.hstack([table[index] for table, index in zip(self._tables, chosen, strict=True)])
        seen, weights = self._see(state, vectors)
        features: tuple[Floats, ...] = ()
        if "user_features" in state:
            features = state["user_features"], state["candidate_features"][part]
        return self._scorer(vectors, state["taste"], seen, features), weights


class _Table:
    """Rows as they are, or of a compressed ranker as bytes with a scale for each."""

    def __init__(self, weights: Mapping[str, Any], name: str) -> None:
        self._rows, self._scale = weights[f"{name}.weight"], weights.get(f"{name}.scale")
        if self._rows.dtype != (np.float32 if self._scale is None else np.int8):
            raise ValueError(f"{name}.weight is of the type {self._rows.dtype}")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Ints | Floats) -> Floats:
        rows = self._rows[index]
        return rows if self._scale is None else dequantised(rows, self._scale[index])


def can_compile(settings: RankerSettings) -> bool:
    """Return whether there is machine code for such a ranker: for all as in their papers."""
    return settings.kind != "din" or settings.attention in ("mlp", "position")


class _Din:
    def __init__(self, settings: RankerSettings, weights: Mapping[str, Floats]) -> None:
        of_query, _, of_difference, of_product = np.split(weights["attention.layer.weight"], 4, axis=1)
        form = _dice_form(weights, "attention.dice"), weights["attention.last.weight"][0]
        layers = of_query + of_difference, np.ascontiguousarray(of_product)
        self._form = UnitForm(*layers, *form, weights["attention.last.bias"])
        self._by_place = weights.get("attention.place")
        self._softmax = settings.softmax

    def __call__(self, state: Mapping[str, Floats], vectors: Floats) -> tuple[Floats, Floats]:
        events = int(state["is_real"].sum())  # the first places are filled
        parts = np.split(state["keys"][:events], [vectors.shape[1]], axis=1)
        keys, from_key = (np.ascontiguousarray(part) for part in parts)
        scores = activation(np.ascontiguousarray(vectors.T), keys, from_key, self._form).T
        if self._by_place is not None:
            scores += self._by_place[: len(keys)][::-1]
        weights = _softmax(scores) if self._softmax else scores
        return weights @ keys, _padded(weights, len(state["is_real"]))


class _Dsin:
    def __init__(self, settings: RankerSettings, weights: Mapping[str, Floats]) -> None:
        pass  # all that it does with candidates is made of the user's state

    def __call__(self, state: Mapping[str, Floats], vectors: Floats) -> tuple[Floats, Floats]:
        dimension, is_real = vectors.shape[1], state["are_sessions"] > 0
        seen, first = [], np.zeros((len(vectors), len(is_real)), np.float32)
        for name in ("evolved", "interests"):
            keys = state[name][is_real]
            shares = _softmax(vectors @ keys[:, dimension:].T)
            seen.append(shares @ keys[:, :dimension])
        first[:, is_real] = shares  # of the interests themselves
        counted = first[:, :, None] * state["shares"]  # (C, S, L)
        return np.hstack(seen[::-1]), counted.reshape(len(vectors), -1)


class _Dien:
    def __init__(self, settings: RankerSettings, weights: Mapping[str, Floats]) -> None:
        self._bias = weights["of_input.bias"]
        self._of_state = np.ascontiguousarray(weights["of_state.weight"].T)
        self._evolution = _EVOLUTIONS[settings.evolution]

    def __call__(self, state: Mapping[str, Floats], vectors: Floats) -> tuple[Floats, Floats]:
        events = int(state["is_real"].sum())
        weights = _softmax(vectors @ state["interests"][:events, vectors.shape[1] :].T)
        entering = np.ascontiguousarray(state["entering"][:events])
        found = evolve(entering, self._bias, self._of_state, weights, self._evolution)
        return found, _padded(weights, len(state["is_real"]))


class _Scorer:
    """The layers that score [c, u, c * u, seen, features].

    What u, the mean of a user's events, and the user's own features do is made once.
    """

    def __init__(self, weights: Mapping[str, Floats], dimension: int) -> None:
        layers = sum(name.startswith("scorer.layers") and name.endswith("bias") for name in weights)
        self._layers = [
            (
                weights[f"scorer.layers.{at}.weight"].T,
                weights[f"scorer.layers.{at}.bias"],
                _dice_form(weights, f"scorer.dice.{at}"),
            )
            for at in range(layers)
        ]
        first, count = self._layers[0][0], len(weights.get("features.mean", ()))
        self._parts = np.split(first[: len(first) - count], [dimension, 2 * dimension, 3 * dimension])
        self._features = _FeatureForm(weights, first[len(first) - count :]) if count else None
        self._last = weights["scorer.last.weight"][0], weights["scorer.last.bias"][0]

    def __call__(self, vectors: Floats, taste: Floats, seen: Floats, features: Sequence[Floats]) -> Floats:
        """Return scores (C,) of candidates (C, D); features: the user's (F,) and theirs (C, F), or none."""
        of_candidate, of_user, of_product, of_seen = self._parts
        _, bias, form = self._layers[0]
        known = of_candidate + taste[:, None] * of_product
        values = vectors @ known + seen @ of_seen + (taste @ of_user + bias)
        if self._features is not None:
            values += self._features(*features)
        dice(values, form)
        for weight, bias, form in self._layers[1:]:
            values = values @ weight + bias
            dice(values, form)
        found: Floats = values @ self._last[0] + self._last[1]
        return found


class _FeatureForm:
    """What features do in the first layer that scores, by weights that bring them to mean 0 and spread 1."""

    def __init__(self, weights: Mapping[str, Floats], layer: Floats) -> None:
        """layer (F, H): the rows of the first layer for features."""
        scaled = layer / weights["features.spread"][:, None]
        self._of_user, self._of_candidate = np.split(scaled, [len(USER_FEATURES)])
        self._bias = -weights["features.mean"] @ scaled

    def __call__(self, user: Floats, candidate: Floats) -> Floats:
        """Return what is to be added (C, H) for features of the user (F,) and of candidates (C, F)."""
        found: Floats = candidate @ self._of_candidate + (user @ self._of_user + self._bias)
        return found


def _padded(weights: Floats, width: int) -> Floats:
    """Return weights (C, T) with zeros behind, (C, width)."""
    return np.pad(weights, ((0, 0), (0, width - weights.shape[1])))


def _dice_form(weights: Mapping[str, Floats], name: str) -> DiceForm:
    alpha, mean, variance = (weights[f"{name}.{each}"] for each in ("alpha", "mean", "variance"))
    scale, tilt = 0.5 / np.sqrt(variance + EPSILON), (1 - alpha) / 2
    forms = (alpha + tilt, tilt, scale, -mean * scale)
    return DiceForm(*(form.astype(np.float32) for form in forms))


def _softmax(scores: Floats) -> Floats:
    """Return (C, T), rows that sum up to 1; of no events, none."""
    high = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
    return high / high.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]
