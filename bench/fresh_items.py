"""`./run bench fresh-items`: how what appeared a moment ago is ranked, beside all that counts as it goes."""

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from bench.harness.report import Report, print_table
from models.artifact.artifact import load
from models.command import Command, log_to_stderr
from models.errors import SettingsError
from models.log.cache import read_cached
from models.log.format import log_format_option, read_log_format
from offline.options import data_path_option
from offline.stream_walk.evaluation import LEARNER, evaluate_stream
from offline.stream_walk.report import curve_of, parse_ages, rows_of, text_of_found
from offline.training.run import train
from offline.training.settings import read_config


@click.command(cls=Command, context_settings={"max_content_width": 110})
@data_path_option
@log_format_option
@click.option("--epochs", type=int, help="Of training, where not its default.")
@click.option("--seed", default=0, show_default=True, help="Of training.")
@click.option("--cases", default=2_000, show_default=True, help="Targets drawn of the last tenth.")
@click.option("--item-lag", default="1s,1m,10m,1h,1d", show_default=True, help="Ages of what is shown.")
@click.option("--exclude-seen", is_flag=True, help="Rank only what is new to the user, as for news.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the result to this file.")
def main(
    data_path: tuple[str, ...],
    log_format: str,
    epochs: int | None,
    seed: int,
    cases: int,
    item_lag: str,
    exclude_seen: bool,
    json_path: Path | None,
) -> None:
    """Train on the first part of a log, and walk the rest in time order, all learning as they go.

    Every item that exists at the moment is ranked. The model is trained on the first eight tenths; how its
    items learn on is found on the ninth, and so is each peer's best variant; the figures are of the last.
    "behind": by how much a ranker is behind live items, target by target, and the standard error of that.

    \b
    Example: ./run bench fresh-items --data-path data/behaviour.csv --json fresh-items.json
    """
    log_to_stderr()
    if cases < 2:
        raise SettingsError(f"--cases {cases}: 2 are the least")
    lags_ms = parse_ages("--item-lag", item_lag)
    log = read_cached(data_path, read_log_format(log_format))
    with TemporaryDirectory() as folder:
        config = read_config(None, {"seed": seed, "epochs": epochs, "final_fit": False})
        artifact = load(train(log, config, Path(folder)).artifact.path)
        cutoff_ms = artifact.training["cutoff_ms"]
        found = evaluate_stream(artifact, log, cases, lags_ms, cutoff_ms=cutoff_ms, exclude_seen=exclude_seen)
    click.echo(text_of_found(found.found))
    results, curve = rows_of(found), curve_of(found)
    columns = {"ndcg@10": ".4f", "s.e.": ".4f", "behind": ".4f", "behind s.e.": ".4f"}
    print_table(f"{log.path}, {len(log):,} rows, the last tenth", results, columns)
    print_table("live items, by how old what is shown may be", curve, {"ndcg@10": ".4f", "s.e.": ".4f"})
    if json_path:
        settings = {"seed": seed, "epochs": epochs, "cases": cases, "exclude_seen": exclude_seen}
        report = Report({**settings, "fingerprint": log.fingerprint}, {**results, **curve})
        report.compare(LEARNER, tuple(results)[1:], "ndcg@10")
        report.write(json_path)


if __name__ == "__main__":
    main()
