"""What a worker that cannot start says: one line, and an exit status."""

import pytest
import redis
from confluent_kafka import KafkaError, KafkaException

from models.errors import SettingsError
from stream.worker.start import one_line_errors


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (SettingsError("X is wrong"), 2, "Error: X is wrong"),
        (redis.exceptions.NoPermissionError("no evalsha"), 1, "Error: Redis does not do .*: no evalsha"),
        (KafkaException(KafkaError(29, "denied")), 1, "Error: Kafka does not do .*: denied"),
        (OSError(13, "Permission denied", "/data/x"), 1, "Error: /data/x: .*: Permission denied"),
    ],
)
def test_refusal_is_one_line(
    error: Exception, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, one_line_errors():
        raise error
    assert ended.value.code == status
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(line.partition(" .*")[0])
    assert said.endswith(line.rpartition(": ")[2])
