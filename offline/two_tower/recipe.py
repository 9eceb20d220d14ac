"""How two towers over features are trained and published."""

import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np

from models.artifact.settings import ArtifactSettings
from models.log.behaviour_log import BehaviourLog
from models.sessions import default_gap_ms
from models.towers.histories import FeatureSettings
from offline.encoders.run import Recipe
from offline.two_tower.features import Columns, Table, no_table, read_table
from offline.two_tower.learner import TwoTowerLearner
from offline.two_tower.settings import TwoTowerConfig

logger = logging.getLogger(__name__)


def read_tables(config: TwoTowerConfig) -> tuple[Table, Table]:
    """Return the features of users and of items. Raises DataError."""
    data, paths = config.data, config.paths
    users = Columns(data.user_id, data.user_categorical, data.user_numeric, data.user_history, data.separator)
    items = Columns(data.item_id, data.item_categorical, data.item_numeric, data.item_history, data.separator)
    return tuple(  # type: ignore[return-value]
        read_table(Path(path), columns) if path else no_table(columns)
        for path, columns in ((paths.users, users), (paths.items, items))
    )


def two_tower_recipe(log: BehaviourLog, config: TwoTowerConfig, tables: tuple[Table, Table]) -> Recipe:
    """Return the recipe for a log, and features of its users and items."""
    for name, column, table in (("users", log.user, tables[0]), ("items", log.item, tables[1])):
        ids = column.values[np.unique(column.codes)].tolist()
        missing = len(set(ids) - set(table.ids))
        if table.ids and missing:
            logger.warning("%d of the log's %d %s have no features", missing, len(ids), name)
    training = config.training
    return Recipe(
        start=lambda rows: TwoTowerLearner(log, rows, config, *tables),
        settings=ArtifactSettings(
            window=config.window, features=FeatureSettings(gap_ms=default_gap_ms(log.precision_ms))
        ),
        slicing=config.evaluation.slicing,
        epochs=training.epochs,
        patience=training.early_stopping_patience,
        final_fit=config.evaluation.final_fit,
        training={**asdict(config), "protocol": config.evaluation.protocol},
    )
