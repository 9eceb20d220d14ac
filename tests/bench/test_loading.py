"""The benchmark of loading measures each way in a process of its own."""

import json
from pathlib import Path

from click.testing import CliRunner

from bench.loading import LEARN, READ, SORT, main
from offline.synthetic.behaviour import SampleSettings
from offline.synthetic.file import write_sample


def test_rows_and_memory_of_each_way_are_told(tmp_path: Path) -> None:
    path = tmp_path / "it's a log.csv"
    write_sample(SampleSettings(users=20, rows=600), path, to_second=True)
    found = CliRunner().invoke(main, ["--data-path", str(path), "--json", str(tmp_path / "out.json")])
    assert found.exit_code == 0, found.output
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    assert list(results) == [READ, SORT, LEARN]
    assert all(each["rows"] == 600 and each["rows/s"] > 0 for each in results.values())
    assert all(0.05 < each["peak GB"] < 4 for each in results.values())
