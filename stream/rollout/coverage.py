"""Which users surely have which model's vectors: by partition, as far as this worker can know. Pure."""

from collections.abc import Collection, Mapping

from stream.store.registry_state import LiveModel, Models


class Coverage:
    """Knows of each partition that this worker holds which live models are written for all its users.

    They are where a backfill has written them all; and where the partition came from a worker that says so
    (the staged model's coverage), or could only come from one (the model serves, so it once was covered),
    while this worker could already encode with the model.
    """

    def __init__(self) -> None:
        #: The assignment of partitions in which each model was loaded.
        self._loaded_in: dict[str, int] = {}
        self._backfilled: set[tuple[int, LiveModel]] = set()
        self._assignment = -1
        #: Before this assignment nothing was inherited: Redis lost it.
        self._lost_in = -1

    @property
    def assignment(self) -> int:
        """The assignment of partitions that this is about."""
        return self._assignment

    def note_loaded(self, version: str, assignment: int) -> None:
        """From now on changed users are written with this model too."""
        self._loaded_in[version] = assignment

    def note_assignment(self, assignment: int) -> bool:
        """Return whether it is another one: then what was known of its partitions counts no more."""
        if assignment == self._assignment:
            return False
        self._assignment = assignment
        self._backfilled.clear()
        return True

    def note_backfilled(self, partition: int, models: Collection[LiveModel]) -> None:
        """All users of the partition are written with these models."""
        self._backfilled |= {(partition, model) for model in models}

    def note_loss(self) -> None:
        """Redis lost writes: nothing is known."""
        self._backfilled.clear()
        self._lost_in = self._assignment

    def missing(
        self,
        partition: int,
        models: Models,
        covered: Mapping[int, tuple[int, int]],
        lost: Collection[int],
    ) -> list[LiveModel]:
        """Return the models, of those loaded, that not all users of a partition surely have.

        covered: partition -> (done, total) as reported for the staged model; lost: partitions that are to be
        backfilled because Redis lost them.
        """
        loaded = [model for model in models.live if model.version in self._loaded_in]
        if partition in lost:
            return loaded
        return [model for model in loaded if not self.is_written(partition, model, models, covered)]

    def is_written(
        self, partition: int, model: LiveModel, models: Models, covered: Mapping[int, tuple[int, int]]
    ) -> bool:
        """Return whether all users of the partition surely have a live model."""
        if model.version not in self._loaded_in:
            return False
        if model == models.staged:
            if (partition, model) in self._backfilled:
                return True
            done, total = covered.get(partition, (0, 1))
            is_said = done >= total
        else:
            # A rollback gives a model another number, but its vectors stay.
            if any((partition, model.version) == (place, each.version) for place, each in self._backfilled):
                return True
            is_said = True
        return is_said and self._assignment > max(self._loaded_in[model.version], self._lost_in)
