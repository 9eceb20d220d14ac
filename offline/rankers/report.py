"""A ranker's training as it is printed: what was read, each pass, and what came of it."""

import math
from collections.abc import Callable
from dataclasses import astuple

from models.location import Location
from models.log.behaviour_log import BehaviourLog
from offline.options import describe_time
from offline.rankers.evaluation import Evaluated, Variety
from offline.rankers.measures import Quality
from offline.rankers.run import RankerEpoch, train_ranker
from offline.rankers.settings import RankerConfig


def text_of_ranker(
    log: BehaviourLog, config: RankerConfig, store: Location, say: Callable[[str], None]
) -> str:
    """Train and publish a ranker; `say` each line as it is known, and return what came of it."""
    left_out = f", {log.bad_rows:,} bad ones left out" if log.bad_rows else ""
    say(f"{log.path}: {len(log):,} rows{left_out}")
    done = train_ranker(log, config, store, lambda epoch: say(_text_of_epoch(epoch)))
    chosen, version = done.chosen, done.artifact.version
    parameters = sum(each.numel() for each in chosen.ranker.parameters())
    lines = [
        f"best epoch {chosen.best.number}, {chosen.seconds:.0f} s, {parameters:,} parameters",
        f"test: {text_of(chosen.test)}",
        f"test, ten best: {text_of_variety(chosen.variety)}",
    ]
    if config.train.final_fit:
        lines.append(f"these are figures of version {done.held_out}, which did not learn the rows held out;")
        until = describe_time(int(log.time_ms.max()))
        lines.append(f"what is published is the same learned anew from all rows, until {until}")
    lines.append(f"artifact {store / version}")
    lines.append(f"version {version}, publication {done.publication}")
    return "\n".join(lines)


def text_of(quality: Quality) -> str:
    """Return the figures in a line."""
    return (
        f"auc {quality.auc:.4f}  user auc {quality.user_auc:.4f}  log loss {quality.log_loss:.4f}  "
        f"calibration error {quality.calibration_error:.4f}  "
        f"observed/expected {quality.observed_over_expected:.3f}  ndcg@10 {quality.ndcg_at_10:.4f}"
    )


def text_of_variety(variety: Variety) -> str:
    """Return the figures in a line."""
    return (
        f"coverage {variety.coverage:.4f}  diversity {variety.diversity:.4f}  "
        f"novelty {variety.novelty:.2f} bits"
    )


def text_of_evaluated(found: Evaluated) -> str:
    """Return the figures of a ranker and of what stands beside it as the lines of a table."""
    heads = ("auc", "user auc", "log loss", "cal. error", "obs./exp.", "ndcg@10")
    lines = [f"{'':12}" + "".join(f"{head:>11}" for head in (*heads, "coverage", "diversity", "novelty"))]
    for name, quality in found.quality.items():
        figures = (*astuple(quality), *astuple(found.variety[name]))
        lines.append(f"{name:12}" + "".join(_column(figure) for figure in figures))
    return "\n".join(lines)


def _column(figure: float) -> str:
    return f"{'-':>11}" if math.isnan(figure) else f"{figure:11.4f}"


def _text_of_epoch(epoch: RankerEpoch) -> str:
    return f"epoch {epoch.number:3d}  loss {epoch.loss:.4f}  validation: {text_of(epoch.validation)}"
