"""Users' vectors as the rows in Redis that readers get."""

from models.artifact.artifact import Artifact
from offline.exporting.users import EncodedUsers
from stream.encoding.encoder import Encoder
from stream.store.user_row import UserRow
from stream.store.vector_store import Store


def export_to_redis(artifact: Artifact, users: EncodedUsers, store: Store, as_json: bool) -> int:
    """Write every user and cold-start users into Redis, whatever is stored there; return how many users.

    As the worker's HASHes, or `as_json` as a JSON list under the raw user id, which cold-start users lack.
    Epoch and offset are 0, so the first event that a worker sees of a user replaces the row. Readers get this
    model when all are written.
    """
    if as_json:
        store.set_json(_rows(artifact, users))
    else:
        store.registry.stage(artifact.version, artifact.publication, partitions=1)
        cold_start = Encoder(artifact).cold_start_rows(["", *artifact.vocabulary.category_ids])
        store.upsert(_rows(artifact, users) + cold_start, force=True)
        store.registry.serve(artifact.version, artifact.publication)
    return len(users.user_ids)


def _rows(artifact: Artifact, users: EncodedUsers) -> list[UserRow]:
    vectors = users.vectors
    return [
        UserRow(
            user_id=user_id,
            vec=vectors.user[row],
            long=vectors.long[row],
            short=vectors.short[row],
            model=artifact.version,
            epoch=0,
            seq=0,
            ts=int(users.ts_ms[row]),
            n=int(users.count[row]),
        )
        for row, user_id in enumerate(users.user_ids)
    ]
