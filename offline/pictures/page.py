"""A training as one page of HTML, with its curves, figures and settings, and its epochs as CSV."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.artifact.artifact import Artifact
from models.errors import ArtifactError, SettingsError

#: Size of a curve's picture, and the space around its lines for the numbers (pixels).
WIDTH, HEIGHT, MARGIN = 420, 220, 50
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Twintide {version}</title>
<style>body{{font:15px sans-serif;margin:2em auto;max-width:60em}} table{{border-collapse:collapse}}
td,th{{padding:.2em .8em;text-align:right;border-bottom:1px solid #ddd}} td:first-child{{text-align:left}}
svg text{{font-size:11px}}</style>
<h1>Model {version}</h1>
<p>{rows} rows, {items} items; epoch {best} of {epochs} was best on the validation slice.</p>
{curves}
<h2>Figures of the best epoch</h2>{figures}
<h2>Settings</h2>{settings}
</html>
"""


def epochs_as_csv(artifact: Artifact) -> str:
    """Return a line per epoch: its number, its loss, and every figure of the validation slice."""
    epochs = _epochs_of(artifact)
    names = list(epochs[0]["validation"])
    rows = [
        [epoch["number"], epoch["learns"], epoch["loss"], *(epoch["validation"][name] for name in names)]
        for epoch in epochs
    ]
    return "".join(",".join(map(str, row)) + "\n" for row in [["epoch", "learns", "loss", *names], *rows])


def page(artifact: Artifact) -> str:
    """Return the page. Raises ArtifactError where the artifact does not know its epochs."""
    metrics, training = artifact.metrics, artifact.training
    epochs = _epochs_of(artifact)
    ndcg = [epoch["validation"]["ndcg"] for epoch in epochs]
    best = 1 + ndcg.index(max(ndcg))
    losses = [epoch["loss"] for epoch in epochs]
    curves = {"loss": losses}
    for name in ("ndcg_at_10", "recall_at_10"):
        curves[f"validation {name}"] = [epoch["validation"][name] for epoch in epochs]
    slices = {name: metrics[name] for name in ("validation", "test")}
    figures = [[name, *(f"{found[name]:.4f}" for found in slices.values())] for name in metrics["test"]]
    settings = {**training, **{f"model.{k}": v for k, v in _plain(artifact.settings.model).items()}}
    settings |= {f"features.{k}": v for k, v in _plain(artifact.settings.features).items()}
    return PAGE.format(
        version=html.escape(artifact.version),
        rows=f"{training['data_rows']:,}",
        items=f"{len(artifact.item_ids):,}",
        best=best,
        epochs=len(epochs),
        curves="".join(curve(name, values, best) for name, values in curves.items()),
        figures=_table(["", *slices], figures),
        settings=_table(["setting", "value"], [[name, str(settings[name])] for name in sorted(settings)]),
    )


def curve(name: str, values: Sequence[float], best: int) -> str:
    """Return values by epoch, at least one, as an SVG picture; the best epoch (from 1) is marked."""
    low, high = min(values), max(values)
    span = high - low or 1.0
    across = (WIDTH - 2 * MARGIN) / max(len(values) - 1, 1)
    points = [
        (MARGIN + place * across, HEIGHT - MARGIN - (value - low) / span * (HEIGHT - 2 * MARGIN))
        for place, value in enumerate(values)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[best - 1]
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{html.escape(name)} by epoch">'
        f'<text x="{MARGIN}" y="20">{html.escape(name)}</text>'
        f'<text x="2" y="{MARGIN + 4}">{high:.4f}</text>'
        f'<text x="2" y="{HEIGHT - MARGIN + 4}">{low:.4f}</text>'
        f'<text x="{MARGIN}" y="{HEIGHT - 25}">1</text>'
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 25}">{len(values)}</text>'
        f'<polyline points="{line}" fill="none" stroke="#06c" stroke-width="2"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#c30"/></svg>'
    )


def write_text(path: Path, text: str) -> None:
    """Write a file; SettingsError where that cannot be done."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from error


def _epochs_of(artifact: Artifact) -> list[dict[str, Any]]:
    if "epochs" not in artifact.metrics:
        raise ArtifactError(f"{artifact.path} does not say how its epochs went: train it again")
    epochs: list[dict[str, Any]] = artifact.metrics["epochs"]
    return epochs


def _plain(settings: Any) -> Mapping[str, Any]:
    return {name: getattr(settings, name) for name in settings.__slots__}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"
