"""How a recurrent encoder beside a graph is trained and published."""

from dataclasses import asdict

from models.artifact.settings import ArtifactSettings
from models.log.behaviour_log import BehaviourLog
from models.sessions import default_gap_ms
from models.towers.histories import FeatureSettings
from offline.encoders.run import Recipe
from offline.recurrent_graph.geometric import convolutions
from offline.recurrent_graph.learner import RecurrentGraphLearner
from offline.recurrent_graph.settings import RecurrentGraphConfig


def recurrent_graph_recipe(log: BehaviourLog, config: RecurrentGraphConfig) -> Recipe:
    """Return the recipe for a log. Raises SettingsError where PyTorch Geometric is not installed."""
    convolutions()
    train = config.train
    return Recipe(
        start=lambda rows: RecurrentGraphLearner(log, rows, config),
        settings=ArtifactSettings(
            window=config.window, features=FeatureSettings(gap_ms=default_gap_ms(log.precision_ms))
        ),
        slicing=train.slicing,
        epochs=train.epochs,
        patience=train.patience,
        final_fit=train.final_fit,
        training=asdict(train),
    )
