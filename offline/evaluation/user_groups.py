"""Users whose group is known, such as the taste that a made-up log gave them, by their vectors."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.arrays import Floats, Ints
from models.artifact.artifact import Artifact
from models.errors import DataError
from models.log.behaviour_log import BehaviourLog
from models.windows.log_histories import histories_of_log

#: The most users that are compared, evenly spread over all.
MAX_USERS = 2_000
COLUMNS = ("user_id", "group")


@dataclass(frozen=True, slots=True)
class GroupedUsers:
    """Unit vectors (U, D) of users, from the mean of all on; groups (U,) places in names."""

    vectors: Floats
    groups: Ints
    names: list[str]

    def same_share(self) -> float:
        """Return how often the user who is nearest by cosine is of the same group."""
        cosine = self.vectors @ self.vectors.T
        np.fill_diagonal(cosine, -np.inf)
        return float((self.groups[cosine.argmax(axis=1)] == self.groups).mean())

    def by_chance(self) -> float:
        """Return how often any other user is."""
        counts = np.bincount(self.groups)
        return float((counts * (counts - 1)).sum() / (len(self.groups) * (len(self.groups) - 1)))


def read_groups(path: Path) -> dict[str, str]:
    """Return the group of each user of a CSV file. Raises DataError, which names the line."""
    found = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise DataError(f"{path} has no column {missing[0]}: its header must name user_id and group")
            for row in reader:
                if not row["user_id"] or not row["group"]:
                    raise DataError(f"{path}:{reader.line_num} has no user_id or no group: complete the line")
                found[row["user_id"]] = row["group"]
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): give --groups another file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no CSV file in UTF-8 ({error})") from error
    return found


def users_of_groups(artifact: Artifact, log: BehaviourLog, group_of: Mapping[str, str]) -> GroupedUsers:
    """Return the users of a log who have a group; DataError where there are not two groups of them."""
    user_ids, histories = histories_of_log(log, artifact.vocabulary, artifact.settings.window)
    asked = np.flatnonzero([user_id in group_of for user_id in user_ids])
    asked = asked[:: max(1, -(-len(asked) // MAX_USERS))]
    ids = [user_ids[user] for user in asked]
    names, groups = np.unique([group_of[user_id] for user_id in ids], return_inverse=True)
    if len(names) < 2:
        raise DataError(
            f"{log.path}: its users are of {len(names)} of the groups that --groups names: two are the least"
        )
    vectors = artifact.encode(histories.take(asked), ids).user
    vectors = vectors - vectors.mean(axis=0)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return GroupedUsers(vectors / np.maximum(lengths, 1e-12), groups, names.tolist())
