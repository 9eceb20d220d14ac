"""A training of an encoder as it is printed: what was read, each pass, and what came of it."""

from collections.abc import Callable

from models.location import Location
from models.log.behaviour_log import BehaviourLog
from offline.encoders.classification import Classification
from offline.encoders.run import EncoderEpoch, Recipe, train_encoder
from offline.options import describe_time
from offline.ranking.metrics import Ranking


def text_of_encoder(log: BehaviourLog, recipe: Recipe, store: Location, say: Callable[[str], None]) -> str:
    """Train and publish an encoder; `say` each line as it is known, and return what came of it."""
    left_out = f", {log.bad_rows:,} bad ones left out" if log.bad_rows else ""
    say(f"{log.path}: {len(log):,} rows{left_out}")
    done = train_encoder(log, recipe, store, lambda epoch: say(_text_of_epoch(epoch)))
    artifact = done.artifact
    lines = [f"best epoch {done.best.number}", f"test: {_text_of(done.test)}"]
    lines.append(f"its next items from as many drawn: {_text_of_answers(done.answers)}")
    if done.held_out != artifact.version:
        until = describe_time(artifact.training["learned_until_ms"])
        lines.append(f"these are figures of version {done.held_out}, which did not learn the rows held out;")
        lines.append(f"what is published is the same learned anew from all rows, until {until}")
    lines.append(f"artifact {store / artifact.version}")
    lines.append(f"version {artifact.version}, publication {artifact.publication}")
    return "\n".join(lines)


def _text_of(found: Ranking) -> str:
    return f"recall@10 {found.recall_at_10:.4f}  ndcg@10 {found.ndcg_at_10:.4f}  mrr@10 {found.mrr_at_10:.4f}"


def _text_of_answers(found: Classification) -> str:
    return (
        f"accuracy {found.accuracy:.4f}  precision {found.precision:.4f}  recall {found.recall:.4f}  "
        f"f1 {found.f1:.4f}"
    )


def _text_of_epoch(epoch: EncoderEpoch) -> str:
    return f"epoch {epoch.number:3d}  loss {epoch.loss:.4f}  validation: {_text_of(epoch.validation)}"
