"""Epochs of topics: what tells offsets of a topic that was deleted and made again from those before."""

from typing import cast

import redis

from stream.store.keys import TOPIC_EPOCHS_KEY
from stream.store.scripts import script


class TopicEpochs:
    """Gives topics their epochs, and puts back what Redis lost; may be used from several threads."""

    def __init__(self, client: "redis.Redis") -> None:
        self._give = client.register_script(script("topic_epoch"))
        self._known: dict[str, int] = {}

    def epoch(self, topic_id: str) -> int:
        """Return the epoch of a topic: greater for a topic that was made later, the same for every worker."""
        arguments: list[bytes | str | int] = [topic_id, self._known.get(topic_id, 0)]
        epoch = int(cast(int, self._give(keys=[TOPIC_EPOCHS_KEY], args=arguments)))
        self._known[topic_id] = epoch
        return epoch

    def restore(self) -> None:
        """Put back what was known; where another worker gave out an epoch meanwhile, take up that one."""
        for topic_id in list(self._known):
            self.epoch(topic_id)
