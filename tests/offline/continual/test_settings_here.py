"""A trainer goes on wherever it runs."""

from types import SimpleNamespace

import pytest

from offline.continual.step import settings_here


@pytest.mark.parametrize(("trained_on", "here"), [("cuda", "auto"), ("cpu", "cpu"), ("auto", "auto")])
def test_a_model_trained_on_a_gpu_goes_on_without_one(trained_on: str, here: str) -> None:
    before = SimpleNamespace(training={"device": trained_on, "lr": 0.5, "learns": "direct"})
    settings = settings_here(before)  # type: ignore[arg-type]
    assert (settings.device, settings.lr) == (here, 0.5)
