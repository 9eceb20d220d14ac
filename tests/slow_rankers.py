"""Rankers as their papers have them, one number after the other: what the fast ones must give."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from models.arrays import Doubles

Weights = Mapping[str, Doubles]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


def dot(one: Sequence[float] | Doubles, other: Sequence[float] | Doubles) -> float:
    return sum(float(a) * float(b) for a, b in zip(one, other, strict=True))


def times(matrix: Doubles, vector: Sequence[float] | Doubles) -> list[float]:
    return [dot(row, vector) for row in matrix]


def plus(*vectors: Sequence[float] | Doubles) -> list[float]:
    return [sum(float(each) for each in values) for values in zip(*vectors, strict=True)]


def softmax(scores: Sequence[float]) -> list[float]:
    high = [math.exp(score - max(scores)) for score in scores]
    return [each / sum(high) for each in high]


def dice(weights: Weights, name: str, values: Sequence[float]) -> list[float]:
    """DIN eq. 4, with the mean and variance that were learned."""
    found = []
    for unit, value in enumerate(values):
        mean, variance = weights[f"{name}.mean"][unit], weights[f"{name}.variance"][unit]
        p, alpha = sigmoid((value - mean) / math.sqrt(variance + 1e-8)), weights[f"{name}.alpha"][unit]
        found.append(p * value + (1 - p) * alpha * value)
    return found


def candidate_vector(weights: Weights, item: int, category: int) -> list[float]:
    return [*weights["vectors.item.weight"][item], *weights["vectors.category.weight"][category]]


def event_vector(weights: Weights, event: Sequence[int]) -> list[float]:
    """event: item, category, behaviour, age bucket."""
    item, category, behaviour, age = event
    own = weights["vectors.behaviour.weight"][behaviour], weights["vectors.age.weight"][age]
    return plus(candidate_vector(weights, item, category), *own)


def scored(weights: Weights, values: Sequence[float], features: Sequence[float]) -> float:
    """The layers that score, with Dice between; features stand behind, each by its mean and spread."""
    if features:
        forms = zip(features, weights["features.mean"], weights["features.spread"], strict=True)
        values = [*values, *((value - float(mean)) / float(spread) for value, mean, spread in forms)]
    layer = 0
    while f"scorer.layers.{layer}.weight" in weights:
        name = f"scorer.layers.{layer}"
        units = plus(times(weights[f"{name}.weight"], values), weights[f"{name}.bias"])
        values, layer = dice(weights, f"scorer.dice.{layer}", units), layer + 1
    return times(weights["scorer.last.weight"], values)[0] + float(weights["scorer.last.bias"][0])


def activation(weights: Weights, name: str, query: Sequence[float], key: Sequence[float]) -> float:
    """DIN figure 2: a layer on [q, k, q - k, q * k], Dice, a number."""
    pairs = list(zip(query, key, strict=True))
    entering = [*query, *key, *(q - k for q, k in pairs), *(q * k for q, k in pairs)]
    units = plus(times(weights[f"{name}.layer.weight"], entering), weights[f"{name}.layer.bias"])
    return dot(dice(weights, f"{name}.dice", units), weights[f"{name}.last.weight"][0]) + float(
        weights[f"{name}.last.bias"][0]
    )


def attention_scores(
    kind: str, weights: Weights, query: Sequence[float], keys: Sequence[Sequence[float]]
) -> list[float]:
    """How well each key fits a query, by the kinds that have one score for both."""
    name = "attention"
    if kind == "dot":
        return [dot(query, key) / math.sqrt(len(query)) for key in keys]
    if kind == "bilinear":
        form = weights[f"{name}.form"]
        return [dot(times(form.T, key), query) for key in keys]
    scores = [activation(weights, name, query, key) for key in keys]
    if kind == "position":
        places = range(len(keys) - 1, -1, -1)  # the newest event is in place 0
        scores = [
            score + float(weights[f"{name}.place"][at]) for score, at in zip(scores, places, strict=True)
        ]
    return scores


def multi_head(
    weights: Weights, name: str, query: Sequence[float], keys: Sequence[Sequence[float]], heads: int
) -> tuple[list[float], list[float]]:
    """What a query sees, with a softmax, and the mean of the heads' weights."""
    if not keys:
        return [0.0] * len(query), []
    size, seen, counted = len(query) // heads, [], [0.0] * len(keys)
    asked = times(weights[f"{name}.query.weight"], query)
    known = [times(weights[f"{name}.key.weight"], key) for key in keys]
    values = [times(weights[f"{name}.value.weight"], key) for key in keys]
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        shares = softmax([dot(asked[own], key[own]) / math.sqrt(size) for key in known])
        for at in range(own.start, own.stop):
            seen.append(sum(share * value[at] for share, value in zip(shares, values, strict=True)))
        counted = [count + share / heads for count, share in zip(counted, shares, strict=True)]
    return times(weights[f"{name}.out.weight"], seen), counted


def din(
    weights: Weights,
    events: Sequence[Sequence[int]],
    candidate: tuple[int, int],
    attention: str = "mlp",
    is_softmax: bool = False,
    heads: int = 4,
    features: Sequence[float] = (),
) -> tuple[float, list[float]]:
    """Return the score, and how much each event counted."""
    query = candidate_vector(weights, *candidate)
    keys = [event_vector(weights, event) for event in events]
    mean = [sum(values) / len(keys) for values in zip(*keys, strict=True)] if keys else [0.0] * len(query)
    if attention == "multi-head":
        seen, counted = multi_head(weights, "attention", query, keys, heads)
    else:
        counted = attention_scores(attention, weights, query, keys)
        counted = softmax(counted) if is_softmax and keys else counted
        seen = [
            sum(share * key[at] for share, key in zip(counted, keys, strict=True)) for at in range(len(query))
        ]
    products = [a * b for a, b in zip(query, mean, strict=True)]
    return scored(weights, [*query, *mean, *products, *seen], features), counted


def normed(weights: Weights, name: str, values: Sequence[float]) -> list[float]:
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values) + 1e-5)
    pairs = zip(values, weights[f"{name}.weight"], weights[f"{name}.bias"], strict=True)
    return [(value - mean) / spread * float(scale) + float(shift) for value, scale, shift in pairs]


def session_interest(weights: Weights, events: Sequence[Sequence[float]], heads: int) -> list[float]:
    """DSIN eq. 3 to 6: self-attention and a layer, each added to what entered and normed; their mean."""
    found = []
    for event in events:
        seen, _ = multi_head(weights, "interest.attention", event, events, heads)
        seen = normed(weights, "interest.attended", plus(event, seen))
        inner = plus(times(weights["interest.inner.weight"], seen), weights["interest.inner.bias"])
        outer = times(weights["interest.outer.weight"], [max(value, 0.0) for value in inner])
        found.append(normed(weights, "interest.out", plus(seen, outer, weights["interest.outer.bias"])))
    return [sum(values) / len(found) for values in zip(*found, strict=True)]


def lstm(weights: Weights, name: str, sessions: Sequence[Sequence[float]]) -> list[list[float]]:
    """DSIN eq. 7, one way."""
    units = weights[f"{name}.of_state.weight"].shape[1]
    state, cell, found = [0.0] * units, [0.0] * units, []
    for session in sessions:
        entering = plus(times(weights[f"{name}.of_input.weight"], session), weights[f"{name}.of_input.bias"])
        gates = plus(entering, times(weights[f"{name}.of_state.weight"], state))
        into, forget, new, out = (gates[at * units : (at + 1) * units] for at in range(4))
        cell = [
            sigmoid(keep) * old + sigmoid(take) * math.tanh(value)
            for keep, old, take, value in zip(forget, cell, into, new, strict=True)
        ]
        state = [sigmoid(gate) * math.tanh(value) for gate, value in zip(out, cell, strict=True)]
        found.append(state)
    return found


def bilinear(
    weights: Weights, name: str, query: Sequence[float], keys: Sequence[Sequence[float]]
) -> tuple[list[float], list[float]]:
    """What a query sees of keys by k W q and a softmax, and how much each counted."""
    if not keys:
        return [0.0] * len(query), []
    form = weights[f"{name}.form"]
    shares = softmax([dot(times(form.T, key), query) for key in keys])
    return [sum(s * key[at] for s, key in zip(shares, keys, strict=True)) for at in range(len(query))], shares


def dsin(
    weights: Weights,
    sessions: Sequence[Sequence[Sequence[int]]],
    most_sessions: int,
    candidate: tuple[int, int],
    heads: int,
    features: Sequence[float] = (),
) -> tuple[float, list[float]]:
    """Return the score, and how much each event of the sessions (oldest first) counted."""
    query = candidate_vector(weights, *candidate)
    vectors = [[event_vector(weights, event) for event in session] for session in sessions]
    interests = []
    for number, session in enumerate(vectors, start=most_sessions - len(sessions)):
        of_session = float(weights["bias.session"][number, 0, 0])
        biased = [
            [
                value + of_session + float(weights["bias.place"][0, place, 0]) + float(unit)
                for value, unit in zip(event, weights["bias.unit"][0, 0], strict=True)
            ]
            for place, event in enumerate(session)
        ]
        interests.append(session_interest(weights, biased, heads))
    backwards = lstm(weights, "backwards", interests[::-1])[::-1]
    evolved = [a + b for a, b in zip(lstm(weights, "forwards", interests), backwards, strict=True)]
    seen, shares = bilinear(weights, "of_interests", query, interests)
    evolving, _ = bilinear(weights, "of_evolved", query, evolved)
    flat = [event for session in vectors for event in session]
    mean = [sum(values) / len(flat) for values in zip(*flat, strict=True)] if flat else [0.0] * len(query)
    products = [a * b for a, b in zip(query, mean, strict=True)]
    counted = [s / len(session) for s, session in zip(shares, vectors, strict=True) for _ in session]
    return scored(weights, [*query, *mean, *products, *seen, *evolving], features), counted


def gru(weights: Weights, vectors: Sequence[Sequence[float]]) -> list[list[float]]:
    """DIEN eq. 2 to 5 with torch's names: its update gate is 1 - u, and U h has a bias too."""
    size, found = weights["extractor.weight_hh_l0"].shape[1], []
    state = [0.0] * size
    for vector in vectors:
        entering = plus(times(weights["extractor.weight_ih_l0"], vector), weights["extractor.bias_ih_l0"])
        known = plus(times(weights["extractor.weight_hh_l0"], state), weights["extractor.bias_hh_l0"])
        following = []
        for at in range(size):
            reset = sigmoid(entering[at] + known[at])
            kept = sigmoid(entering[size + at] + known[size + at])
            new = math.tanh(entering[2 * size + at] + reset * known[2 * size + at])
            following.append((1 - kept) * new + kept * state[at])
        state = following
        found.append(state)
    return found


def evolve(
    weights: Weights, interests: Sequence[Sequence[float]], shares: Sequence[float], evolution: str
) -> list[float]:
    """DIEN section 4.3: AIGRU, AGRU, AUGRU."""
    size = weights["of_state.weight"].shape[1]
    state = [0.0] * size
    for interest, share in zip(interests, shares, strict=True):
        entered = [value * share for value in interest] if evolution == "aigru" else interest
        entering = plus(times(weights["of_input.weight"], entered), weights["of_input.bias"])
        known = times(weights["of_state.weight"], state)
        following = []
        for at in range(size):
            update = sigmoid(entering[at] + known[at])
            reset = sigmoid(entering[size + at] + known[size + at])
            new = math.tanh(entering[2 * size + at] + reset * known[2 * size + at])
            update = {"augru": update * share, "aigru": update, "agru": share}[evolution]
            following.append((1 - update) * state[at] + update * new)
        state = following
    return state


def dien(
    weights: Weights,
    events: Sequence[Sequence[int]],
    candidate: tuple[int, int],
    evolution: str,
    features: Sequence[float] = (),
) -> tuple[float, list[float]]:
    """Return the score, and how much each event counted."""
    query = candidate_vector(weights, *candidate)
    vectors = [event_vector(weights, event) for event in events]
    interests = gru(weights, vectors)
    _, shares = bilinear(weights, "attention", query, interests)
    evolved = evolve(weights, interests, shares, evolution)
    mean = (
        [sum(values) / len(vectors) for values in zip(*vectors, strict=True)]
        if vectors
        else [0.0] * len(query)
    )
    products = [a * b for a, b in zip(query, mean, strict=True)]
    return scored(weights, [*query, *mean, *products, *evolved], features), shares


def auxiliary_loss(
    weights: Weights,
    users: Sequence[Sequence[Sequence[int]]],
    drawn: Sequence[Sequence[tuple[int, int]]],
) -> float:
    """DIEN eq. 7, the mean over all pairs: drawn[u][t] stands against event t of user u."""
    losses = []
    for events, others in zip(users, drawn, strict=True):
        interests = gru(weights, [event_vector(weights, event) for event in events])
        for place in range(1, len(events)):
            came = candidate_vector(weights, events[place][0], events[place][1])
            other = candidate_vector(weights, *others[place])
            losses.append(-math.log(sigmoid(dot(interests[place - 1], came))))
            losses[-1] -= math.log(1 - sigmoid(dot(interests[place - 1], other)))
    return sum(losses) / len(losses)


def weights_of(state: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]) -> Weights:
    return {name: value.astype(np.float64) for name, value in state.items()}
