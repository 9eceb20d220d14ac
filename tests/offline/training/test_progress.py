"""Where a training stands is in a file, whole or not at all."""

import resource
from pathlib import Path

import pytest
from torch.amp.grad_scaler import GradScaler

from models.errors import ArtifactError
from offline.training.progress import TrainingProgress
from tests.offline.continual.making import learned


def test_full_disk_is_one_line_and_leaves_what_was_there(tmp_path: Path) -> None:
    progress = TrainingProgress(learned(["a", "b"]).towers, [], [], GradScaler("cpu", enabled=False))
    progress.save(tmp_path / "stands")
    before = (tmp_path / "stands").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(
            ArtifactError, match="stands, where the training stands, cannot be written"
        ) as error:
            progress.save(tmp_path / "stands")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(error.value)
    assert (list(tmp_path.iterdir()), (tmp_path / "stands").read_bytes()) == ([tmp_path / "stands"], before)
