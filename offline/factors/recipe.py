"""How a matrix factorisation is trained and published."""

from dataclasses import asdict

from models.artifact.settings import ArtifactSettings
from models.log.behaviour_log import BehaviourLog
from models.sessions import default_gap_ms
from models.towers.histories import FeatureSettings
from offline.encoders.run import Recipe
from offline.factors.learner import FactorLearner
from offline.factors.settings import FactorConfig


def factor_recipe(log: BehaviourLog, config: FactorConfig) -> Recipe:
    """Return the recipe for a log."""
    train = config.train
    return Recipe(
        start=lambda rows: FactorLearner(log, rows, config),
        settings=ArtifactSettings(
            window=config.window, features=FeatureSettings(gap_ms=default_gap_ms(log.precision_ms))
        ),
        slicing=train.slicing,
        epochs=train.epochs,
        patience=train.patience,
        final_fit=train.final_fit,
        training=asdict(train),
    )
