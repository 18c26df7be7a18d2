import os
from pathlib import Path

from stepsearch.serving.server_metrics import ServerMetrics

DEAD_PID = 2**22 + 1
"""More than Linux gives out."""


def lines_of(metrics: ServerMetrics) -> list[str]:
    return metrics.render().splitlines()


def test_the_histogram_counts_up(tmp_path: Path) -> None:
    metrics = ServerMetrics(tmp_path)
    for seconds in (0.0005, 0.001, 0.02, 100):
        metrics.answered(200, seconds)
    buckets = [line for line in lines_of(metrics) if "_bucket" in line]
    assert buckets[0] == 'stepsearch_search_request_seconds_bucket{le="0.001"} 2'
    assert buckets[4] == 'stepsearch_search_request_seconds_bucket{le="0.025"} 3'
    assert buckets[-1] == 'stepsearch_search_request_seconds_bucket{le="+Inf"} 4'
    assert "stepsearch_search_request_seconds_sum 100.0215" in lines_of(metrics)


def test_workers_are_added_up_and_a_dead_one_has_nothing_open(tmp_path: Path) -> None:
    metrics = ServerMetrics(tmp_path)
    metrics.add("queries", 3)
    metrics.set("open_requests", 2)
    (tmp_path / f"{DEAD_PID}.metrics").write_bytes((tmp_path / f"{os.getpid()}.metrics").read_bytes())
    metrics.add("queries")
    assert "stepsearch_search_queries_total 7" in lines_of(metrics)
    assert "stepsearch_search_open_requests 2" in lines_of(metrics)


def test_every_sample_has_its_type(tmp_path: Path) -> None:
    lines = lines_of(ServerMetrics(tmp_path))
    typed = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    named = {line.partition(" ")[0].partition("{")[0] for line in lines if not line.startswith("#")}
    parts = ("_bucket", "_sum", "_count")
    assert {name for name in named if not name.endswith(parts)} <= typed
    assert len(typed) == len([line for line in lines if line.startswith("# HELP")])
