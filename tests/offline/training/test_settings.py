"""A setting that makes no sense is named with its value."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from offline import train


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("speed = 3", "there is no setting 'speed'"),
        ("epochs = 'many'", "epochs is 'many'; expected `int | null`, got `str`"),
        ("epochs = 0", "epochs is 0; expected `int` >= 1"),
        ("seed = -1", "seed is -1; expected `int` >= 0"),
        ("seed = 4294967296", "seed is 4294967296; expected `int` <= 4294967295"),
        ("= =", "not TOML"),
        ("lr = 1.0", "lr is 1.0; expected `float` < 1.0"),
        ("lr = nan", "lr is nan; expected `float`"),
        ("test_share = 0.5", "test_share is 0.5; expected `float` < 0.5"),
        ("validation_share = 0", "validation_share is 0; expected `float` > 0.0"),
        ("warmup_share = 1.0", "warmup_share is 1.0; expected `float` < 1.0"),
        ("popularity_power = -1", "popularity_power is -1; expected `float` >= 0.0"),
        ("contrast_weight = -0.5", "contrast_weight is -0.5; expected `float` >= 0.0"),
        ("uniform_share = 1.5", "uniform_share is 1.5; expected `float` <= 1.0"),
        ("hard_share = 1.0", "hard_share is 1.0; expected `float` < 1.0"),
        ("score = 'angle'", "score is 'angle'; invalid enum value 'angle'"),
        ("hard_refresh_steps = 0", "hard_refresh_steps is 0; expected `int` >= 1"),
        ("behaviour_weights = [1, 2]", "behaviour_weights is [1, 2]; expected `array` of length 4"),
        ("behaviour_weights = [1, 2, -1, 0]", "behaviour_weights is [1, 2, -1, 0]; expected `float` >= 0"),
        ("behaviour_weights = [0, 0, 0, 0]", "one must be over 0"),
    ],
)
def test_config_names_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    found = CliRunner().invoke(train.main, ["--config", str(tmp_path / "c.toml")])
    assert found.exit_code == 2
    assert words in found.stderr
