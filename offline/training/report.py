"""A training of dual towers as it is printed: each epoch, each trial, and what came of it."""

import math
from collections import Counter
from pathlib import Path

from models.artifact.artifact import Artifact
from models.location import Location
from offline.options import describe_time
from offline.stream_walk.report import text_of_found
from offline.training.continuing import Continued
from offline.training.progress import Epoch
from offline.training.run import Trained
from offline.training.search_space import changed_of
from offline.training.selection import Distilled
from offline.training.study import Trial
from offline.training.tuning import Tuned

#: How many trials of a search its table shows.
SHOWN_TRIALS = 10
#: How an epoch's line says what learned in it.
_LEARNS = {"direct": "direct path", "everything": "all        "}


def text_of_epoch(epoch: Epoch) -> str:
    """Return its figures in a line."""
    found = epoch.validation
    return (
        f"epoch {epoch.number:3d}  {_LEARNS[epoch.learns]}  loss {epoch.loss:.4f}  "
        f"validation: recall@10 {found.recall_at_10:.4f}  "
        f"ndcg@10 {found.ndcg_at_10:.4f}  mrr@10 {found.mrr_at_10:.4f}"
    )


def text_of_trained(done: Trained, store: Location) -> str:
    """Return what came of a training, and where it lies."""
    best, test, half_lives = done.selected.best, done.selected.test, done.selected.half_lives
    weights = done.selected.weights
    lines = [_text_of_distilled(done.selected.distilled)] if done.selected.distilled else []
    lines += [
        f"best epoch {best.number}{'' if best.learns == 'everything' else ', without the Transformers'}",
        f"half-life: popularity {_hours(half_lives.popularity_h)}, taste {_hours(half_lives.taste_h)}",
        f"weight of items' differences {weights.difference:g}, of popularity {weights.popularity:g}",
        f"test: recall@10 {test.recall_at_10:.4f}  ndcg@10 {test.ndcg_at_10:.4f}  "
        f"mrr@10 {test.mrr_at_10:.4f}",
    ]
    if done.held_out != done.artifact.version:
        until = describe_time(done.artifact.training["learned_until_ms"])
        lines.append(f"these are figures of version {done.held_out}, which did not learn the rows held out;")
        lines.append(f"what is published is the same learned anew from all rows, until {until}")
    if done.live_items:
        lines.append(text_of_found(done.live_items))
    return "\n".join([*lines, _text_of_artifact(done.artifact, store)])


def text_of_continued(done: Continued, store: Location) -> str:
    """Return what came of going on, and where it lies."""
    lines = [f"learned {done.rows:,} new rows; {done.new_items:,} items are new"]
    if done.before:
        lines.append(
            f"the model before ranked them: recall@10 {done.before.recall_at_10:.4f}  "
            f"ndcg@10 {done.before.ndcg_at_10:.4f}  mrr@10 {done.before.mrr_at_10:.4f}"
        )
    moved = done.moved
    lines.append(f"mean cosine to the vectors before: items {moved.items:.4f}, users {moved.users:.4f}")
    return "\n".join([*lines, _text_of_artifact(done.artifact, store)])


def text_of_trial(trial: Trial) -> str:
    """Return how a trial ended, in a line."""
    return f"trial {trial.number:3d}  {trial.end:8}  {_figures(trial)}"


def text_of_tuned(tuned: Tuned) -> str:
    """Return a table of the best trials, and where their settings are."""
    ends = Counter(trial.end for trial in tuned.trials)
    best = [
        trial for trial in tuned.trials if trial.end in ("finished", "stopped") and trial.ndcg is not None
    ]
    best.sort(key=lambda trial: -(trial.ndcg or 0.0))
    lines = [
        f"{len(tuned.trials)} trials: " + ", ".join(f"{ends[end]} {end}" for end in sorted(ends)),
        f"{'ndcg':>6}{'s':>8}  settings",
        *map(_figures, best[:SHOWN_TRIALS]),
        f"the best are in {tuned.file}, for --config",
    ]
    return "\n".join(lines)


def _text_of_distilled(found: Distilled) -> str:
    does = "so it teaches" if found.helps else "so it is left out"
    return (
        f"teacher: validation ndcg {found.taught:.4f} with it, {found.alone:.4f} without, {does} "
        f"(difference {found.taught - found.alone:+.4f}, its standard error {found.error:.4f})"
    )


def _text_of_artifact(artifact: Artifact, store: Location) -> str:
    return (
        f"artifact {artifact.path if isinstance(store, Path) else store / artifact.version}\n"
        f"version {artifact.version}, publication {artifact.publication}"
    )


def _figures(trial: Trial) -> str:
    ndcg = "" if trial.ndcg is None else f"{trial.ndcg:.4f}"
    settings = ", ".join(f"{name} {value}" for name, value in changed_of(trial.settings).items())
    return f"{ndcg:>6}{trial.seconds:8.1f}  {settings or '(the defaults)'}"


def _hours(half_life_h: float) -> str:
    return "for ever" if math.isinf(half_life_h) else f"{half_life_h:g} h"
