"""Which settings a search tries, and in what range: the defaults, and what lies around them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from models.errors import SettingsError, TwintideError
from models.events import Behaviour
from models.log.behaviour_log import BehaviourLog
from models.towers.histories import FeatureSettings
from models.towers.settings import ModelSettings
from offline.training.selection import Ground
from offline.training.settings import FOR_EVER, FOUND, TrainingConfig, TrainSettings

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

#: What a half-life found to be for ever is tried against (h).
LONG_H = (64.0, 256.0)
#: How a weight of one behaviour is called: behind this, its name.
WEIGHT = "behaviour_weights."

Space = Mapping[str, "BaseDistribution"]


def optuna_module() -> ModuleType:
    """Return Optuna; TwintideError where it is not installed."""
    try:
        import optuna
        import tomli_w  # noqa: F401  the best settings are written with it
    except ImportError as error:
        raise TwintideError(f"--tune needs {error.name}: pip install 'twintide[tune]'") from error
    return optuna


def space_of(log: BehaviourLog, ground: Ground, config: TrainingConfig, given: Mapping[str, Any]) -> Space:
    """Return what is tried of each setting that is not given; SettingsError where all of them are."""
    distributions = optuna_module().distributions
    choice, number = distributions.CategoricalDistribution, distributions.FloatDistribution
    space = {
        "lr": number(3e-4, 3e-2, log=True),
        "dropout": number(0.0, 0.85, step=0.05),
        "batch_size": choice((None, 4, 16, 32, 64)),  # None: that of the device
        "unknown_share": choice((0.0, 0.01, 0.02, 0.05, 0.1, 0.2)),
        "contrast_weight": choice((0.0, 0.003, 0.01, 0.03, 0.1, 0.3)),
        "without": choice(("", "transformers")),
        "short_events": choice((3, 5, 10, 20, 40)),
    }
    if config.train.protocol == "time":  # leave-one-out knows no present, so there nothing ages
        space["half_life_h"] = choice(_around(ground.half_lives.taste_h))
        space["popularity_half_life_h"] = choice(_around(ground.half_lives.popularity_h))
    is_large = len(ground.vocabulary.item_ids) > config.train.full_softmax_items
    if is_large:
        space["loss"] = choice(("auto", "gbce"))
    if config.train.loss != "full-softmax" and (is_large or config.train.loss != "auto"):
        space["negatives"] = choice((256, 1_024, 4_096))
        space["uniform_share"] = choice((0.0, 0.25, 0.5, 0.75, 1.0))
    for behaviour in _rarer_behaviours(log):
        space[WEIGHT + behaviour.name.lower()] = number(0.1, 10.0, log=True)
    space = {name: values for name, values in space.items() if name.partition(".")[0] not in given}
    if not space:
        raise SettingsError("--tune has nothing to try: every setting it tries is given; leave some out")
    return space


def settings_of(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, by name, that a point of the space means; numbers have three digits."""
    given = {name: value for name, value in parameters.items() if value is not None}
    rounded = {k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in given.items()}
    settings = {name: value for name, value in rounded.items() if not name.startswith(WEIGHT)}
    if len(settings) < len(rounded):
        names = [behaviour.name.lower() for behaviour in Behaviour]
        settings["behaviour_weights"] = [rounded.get(WEIGHT + name, 1.0) for name in names]
    if "without" in settings:
        settings["without"] = [settings["without"]] if settings["without"] else []
    return settings


def defaults_of(space: Iterable[str]) -> dict[str, Any]:
    """Return the point of the space at which every setting is the default."""
    found = {name: 1.0 if name.startswith(WEIGHT) else _default(name) for name in space}
    return {**found, "without": ""} if "without" in found else found


def changed_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the settings that are not the defaults."""
    return {name: value for name, value in settings.items() if value != _default(name)}


def _default(name: str) -> Any:
    known = TrainSettings(), ModelSettings(), FeatureSettings()
    value = next(getattr(part, name) for part in known if hasattr(part, name))
    return list(value) if isinstance(value, tuple) else value


def _around(found_h: float) -> tuple[str | float, ...]:
    if math.isinf(found_h):
        return (FOUND, *LONG_H)
    return (FOUND, found_h / 4, found_h * 4, FOR_EVER)


def _rarer_behaviours(log: BehaviourLog) -> list[Behaviour]:
    """Return the behaviours of the log but the commonest, whose weight stays 1: only ratios matter."""
    counts = {each: int((log.behaviour == each).sum()) for each in Behaviour}
    commonest = max(counts, key=lambda each: counts[each])
    return [each for each, count in counts.items() if count and each != commonest]
