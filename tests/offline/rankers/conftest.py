"""Rankers that the command has trained and published, one of each kind, for whoever asks."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from offline import train

TINY = "item_dimension = 8\ncategory_dimension = 8\nmax_events = 10\nregularisation = 0.01\nheads = 2\n"


@pytest.fixture(scope="session")
def published(walk_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, str]]:
    """Give what returns the store of a ranker of a kind, and what training it printed."""
    folder, done = tmp_path_factory.mktemp("rankers"), {}

    def store_of(kind: str) -> tuple[Path, str]:
        if kind not in done:
            (folder / "tiny.toml").write_text(TINY)
            arguments = ["--model", kind, "--data-path", walk_csv, "--save-dir", folder / kind, "--epochs", 1]
            given = [*map(str, arguments), "--config", str(folder / "tiny.toml")]
            found = CliRunner().invoke(train.main, given)
            assert found.exit_code == 0, found.output
            done[kind] = found.output
        return folder / kind, done[kind]

    return store_of
