"""`python -m offline.evaluate`: how well an artifact ranks, beside baselines."""

from collections.abc import Callable, Mapping

import click

from models.artifact.artifact import Artifact
from models.command import Command, log_to_stderr
from models.errors import SettingsError
from models.location import Location
from models.log.behaviour_log import BehaviourLog
from models.log.format import log_format_option
from models.rankers.load import is_ranker, load_ranker
from offline.evaluation.evaluation import details_table, evaluate, ranking_table
from offline.options import (
    artifact_option,
    cutoff_of,
    cutoff_option,
    data_path_option,
    describe_time,
    evaluated,
    load_evaluated,
    warn_of_last,
)
from offline.rankers.evaluation import evaluate_ranker
from offline.rankers.report import text_of_evaluated
from offline.ranking.protocols import LEAST_ROWS, Cases, are_last, cases_by_time, cases_leave_one_out
from offline.source import from_stream_option, read_log
from offline.stream_walk.evaluation import evaluate_stream
from offline.stream_walk.report import parse_ages, stream_table


@click.command(cls=Command)
@artifact_option
@data_path_option
@log_format_option
@from_stream_option
@click.option(
    "--protocol",
    type=click.Choice(["time", "leave-one-out", "stream"]),
    help="What is asked.  [default: as the artifact was trained]",
)
@cutoff_option
@click.option(
    "--exclude-seen/--no-exclude-seen",
    default=False,
    show_default=True,
    help="Do not rank what a user had before, and leave out who returns to it. For logs without repeats, "
    "such as ratings.",
)
@click.option(
    "--cases", default=2_000, show_default=True, help="Of --protocol stream: targets drawn of the last part."
)
@click.option(
    "--item-lag", help="Of --protocol stream: also rank by live items up to so old, such as 1s,1m,1h."
)
@click.option(
    "--details/--no-details",
    "with_details",
    default=False,
    show_default=True,
    help="Also print bootstrap intervals, AUC, coverage, categories, and NDCG@10 by how active users and how "
    "popular items are.",
)
def main(
    artifact_path: Location,
    data_path: tuple[str, ...],
    log_format: str,
    from_stream: bool,
    protocol: str | None,
    cutoff: str | None,
    exclude_seen: bool,
    cases: int,
    item_lag: str | None,
    with_details: bool,
) -> None:
    """Rank all items for every user and print Recall, NDCG and MRR beside baselines.

    time: a user's window of events before the cutoff, the target is their first event at or after it.
    leave-one-out: the target is their last event, the history their window before that; of a model that was
    trained so, of users with three events or more, as it has learned all of the others. Users without a
    history are left out; a target that the model does not know is a miss; items that score the same as the
    target rank before it. By default all items are ranked, the user's own past ones too. NDCG@10 is the mean
    of 1/log2(1 + rank) up to rank 10, MRR that of 1/rank; recall is the hit rate too, as there is one target
    each; +- is half the 95 % confidence interval. You can compute the same figures yourself from the vectors
    of `offline.export --until CUTOFF --to parquet`.

    What is published has learned every row of its log. Asked about these rows, it is the version that its own
    figures are of that is ranked, which has not; with a --cutoff after all it learned, it is itself.

    stream: the rows in time order, every item that exists at the moment ranked, all learning as they go: the
    model as it was trained, its live items (docs/items.md), and what only counts. Live items' settings are
    found on the rows between training and the cutoff; the figures are of rows from there on.

    A ranker scores, as it is served, the positives of the rows from the cutoff on beside what was negative in
    training, and its ten best of all items are asked how varied they are (docs/rankers.md); beside it stands
    how often items are positives. Of the options --protocol and --cutoff are for it.

    "category alone" and "cold start" rank by the vectors that users without one of their own get: "category
    alone" by the category of their last event, "cold start" without any.

    \b
    Example:
      python -m offline.evaluate --artifact artifacts --data-path data/behaviour.csv
    """
    log_to_stderr()
    if is_ranker(artifact_path):
        _refuse_for_rankers(
            {"--exclude-seen": exclude_seen, "--item-lag": item_lag, "--details": with_details}
        )
        click.echo(
            _ranker(artifact_path, lambda: read_log(data_path, log_format, from_stream), protocol, cutoff)
        )
        return
    artifact = load_evaluated(artifact_path, cutoff)
    log = read_log(data_path, log_format, from_stream)
    if protocol == "stream":
        click.echo(_walked(artifact, log, cases, item_lag, cutoff, exclude_seen=exclude_seen))
        return
    asked, question = _cases(artifact, log, protocol, cutoff)
    found = evaluate(artifact, asked, exclude_seen=exclude_seen, with_details=with_details)
    ranked = "items new to the user are ranked" if exclude_seen else "all items are ranked"
    click.echo(f"model {artifact.version}, {len(artifact.item_ids):,} items, {question}; {ranked}")
    if found.repeats:
        click.echo(f"{found.repeats:,} users whose next item they had before are left out")
    click.echo(
        f"{found.users:,} users with a history ({found.cold_start_users:,} without are left out), "
        f"{found.missing_share:.1%} of targets unknown to the model"
    )
    click.echo(ranking_table(found))
    if with_details:
        click.echo(f"\n{details_table(found)}")


def _refuse_for_rankers(options: Mapping[str, object]) -> None:
    for name, value in options.items():
        if value:
            raise SettingsError(f"{name} means nothing for a ranker, which scores candidates: leave it out")


def _ranker(
    where: Location, read: Callable[[], BehaviourLog], protocol: str | None, cutoff: str | None
) -> str:
    """Return the figures of a ranker."""
    if protocol == "stream":
        raise SettingsError("--protocol stream means nothing for a ranker: leave it out, or say time")
    loaded = evaluated(where, cutoff, load_ranker)
    is_last = (protocol or loaded.training.get("protocol")) == "leave-one-out"
    if is_last and cutoff is not None:
        raise SettingsError("--cutoff means nothing with --protocol leave-one-out: leave one of them out")
    if is_last:
        warn_of_last(loaded)
    cutoff_ms = None if is_last else cutoff_of(loaded, cutoff)
    found = evaluate_ranker(loaded, read(), cutoff_ms)
    rows = f"the last rows of users with {LEAST_ROWS} or more"
    asked = rows if cutoff_ms is None else f"rows from {describe_time(cutoff_ms)} on"
    return (
        f"ranker {loaded.version}, {len(loaded.vocabulary.item_ids):,} items, {asked}\n"
        f"{found.samples:,} rows are asked about, {found.unknown_share:.1%} of unknown items\n"
        f"{text_of_evaluated(found)}"
    )


def _walked(
    artifact: Artifact,
    log: BehaviourLog,
    cases: int,
    item_lag: str | None,
    cutoff: str | None,
    *,
    exclude_seen: bool,
) -> str:
    if cases < 2:
        raise SettingsError(f"--cases {cases}: 2 are the least")
    lags_ms = parse_ages("--item-lag", item_lag) if item_lag else []
    cutoff_ms = cutoff_of(artifact, cutoff)
    found = evaluate_stream(artifact, log, cases, lags_ms, cutoff_ms=cutoff_ms, exclude_seen=exclude_seen)
    ranked = "items new to the user are ranked" if exclude_seen else "all items that exist are ranked"
    title = f"model {artifact.version}, rows from {describe_time(cutoff_ms)} on, in time order; {ranked}"
    return f"{title}\n{stream_table(found)}"


def _cases(
    artifact: Artifact, log: BehaviourLog, protocol: str | None, cutoff: str | None
) -> tuple[Cases, str]:
    """Return the cases and a description of what they ask."""
    vocabulary, window = artifact.vocabulary, artifact.settings.window
    if (protocol or artifact.training["protocol"]) == "leave-one-out":
        if cutoff is not None:
            raise SettingsError("--cutoff means nothing with --protocol leave-one-out: leave one of them out")
        warn_of_last(artifact)
        if artifact.training.get("protocol") != "leave-one-out":
            return cases_leave_one_out(log, vocabulary, window), "leave-one-out: each user's last event"
        last = are_last(log, LEAST_ROWS)  # of the others it has learned all
        question = f"leave-one-out: the last event of users with {LEAST_ROWS} or more"
        return cases_leave_one_out(log, vocabulary, window, last), question
    cutoff_ms = cutoff_of(artifact, cutoff)
    question = f"first event at or after {describe_time(cutoff_ms)} (--until {cutoff_ms})"
    return cases_by_time(log, vocabulary, window, cutoff_ms), question


if __name__ == "__main__":
    main()
