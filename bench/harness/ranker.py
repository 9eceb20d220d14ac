"""A ranker: it reads users again and again, takes the items of their model, and notes what is wrong."""

import random
import threading
from collections import Counter
from collections.abc import Sequence

import numpy as np
import redis

from local.proof import VECTOR_TOLERANCE
from models.arrays import Ints
from models.artifact.artifact import load
from models.errors import TwintideError
from models.log.behaviour_log import BehaviourLog
from models.windows.log_histories import histories_of_log
from stream.serving.reader import Reader, UserVectors
from stream.serving.recommender import Recommender
from stream.settings import Settings
from stream.store.clients import redis_client

#: Users of one read, the pause between two reads (s), and of how many reads one vector is kept to be checked.
USERS_PER_READ, EVERY_S, KEPT_OF = 20, 0.05, 10
#: How many of the kept vectors are compared in the end.
CHECKED = 300
#: Items ranked for the first user of each read.
ITEMS = 10


class Ranker(threading.Thread):
    """Reads until `finish`. All its users must have had vectors before it starts."""

    def __init__(self, settings: Settings, user_ids: Sequence[str], seed: int = 1) -> None:
        super().__init__(name="ranker", daemon=True)
        self.reads = 0
        #: Versions that were read.
        self.versions: set[str] = set()
        #: What was wrong, how often, and one example of each.
        self.faults: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self._kept: list[UserVectors] = []
        self._store = settings.artifact
        self._client = redis_client(settings.redis)
        self._reader = Reader(self._client, key_prefix=settings.key_prefix)
        self._recommender = Recommender(self._reader, self._store)
        self._user_ids = list(user_ids)
        self._random = random.Random(seed)
        self._is_over = threading.Event()

    def run(self) -> None:
        """Read."""
        while not self._is_over.wait(EVERY_S):
            self.reads += 1
            try:
                self._read(self._random.choices(self._user_ids, k=USERS_PER_READ))
            except redis.RedisError as error:
                self._note("unanswered", repr(error))
            except TwintideError as error:
                self._note("refused", repr(error))

    def finish(self) -> None:
        """Stop."""
        self._is_over.set()
        self.join()
        self._client.close()

    def check_kept(self, log: BehaviourLog) -> int:
        """Compare some of what was read with what the model that it names makes of the user's rows.

        log: all that was sent; rows of one user differ in time. A vector that is another's is noted as
        `wrong`. Returns how many were compared.
        """
        some = self._random.sample(self._kept, min(len(self._kept), CHECKED))
        rows_of = _rows_by_user(log)
        for version in {each.model for each in some}:
            artifact = load(self._store / version)
            for found in (each for each in some if each.model == version):
                rows = rows_of[found.user_id]
                known = log.select(rows[log.time_ms[rows] <= found.ts])
                _, histories = histories_of_log(known, artifact.vocabulary, artifact.settings.window)
                right = artifact.encode(histories, [found.user_id]).user[0]
                if len(histories.item) != found.n or np.abs(right - found.vec).max() > VECTOR_TOLERANCE:
                    self._note("wrong", f"the vector of user {found.user_id} is not {version}'s")
        return len(some)

    def _read(self, user_ids: Sequence[str]) -> None:
        found = self._reader.read(user_ids)
        versions = {each.model for each in found}
        self.versions |= versions
        if len(versions) > 1:
            self._note("mixed", f"one read has vectors of {sorted(versions)}")
        for each in found:
            if each.reason:
                self._note("missing", f"user {each.user_id} has none of their own ({each.reason})")
        ranked = self._recommender.rank(found[0], ITEMS, fresh=False)
        if len(ranked.item_ids) < ITEMS:
            self._note("missing", f"{len(ranked.item_ids)} items of {found[0].model}")
        if self.reads % KEPT_OF == 0 and not found[0].reason:
            self._kept.append(found[0])

    def _note(self, what: str, example: str) -> None:
        self.faults[what] += 1
        self.examples.setdefault(what, example)


def _rows_by_user(log: BehaviourLog) -> dict[str, Ints]:
    """Return the rows of each user of a log, in time order."""
    order = log.by_user()
    ends = np.flatnonzero(np.diff(log.user.codes[order], append=-1)) + 1
    parts = np.split(order, ends[:-1])
    return {str(log.user.values[log.user.codes[part[0]]]): part for part in parts}
