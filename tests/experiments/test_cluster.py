"""A sweep on a real cluster of processes: timed there, kept here, stopped everywhere, and none the poorer for a worker that dies."""

from __future__ import annotations

import os
import pickle
import signal
from collections import Counter
from itertools import pairwise
from time import time_ns

import pytest

import tokenstream_magic as ts
from tokenstream_magic.errors import BadRequest
from tokenstream_magic.experiments import cluster, sweep as sweeps
from tokenstream_magic.mock.script import Script
from tokenstream_magic.mock.server import MockServer

KEY = "sk-of-the-worker-alone-0123456789"


@pytest.fixture(scope="module")
def configuration(tmp_path_factory):
    return tmp_path_factory.mktemp("worker") / "tokenstream.toml"


@pytest.fixture(scope="module")
def client(configuration):
    from distributed import Client, LocalCluster

    environment = {
        "TOKENSTREAM_CONFIG": str(configuration),
        "LAB_KEY": KEY,
        "TOKENSTREAM_DATABASE": str(configuration.parent / "none" / "t.db"),
    }
    how = {"n_workers": 2, "threads_per_worker": 2, "processes": True, "dashboard_address": None, "silence_logs": 50}
    with LocalCluster(env=environment, **how) as local, Client(local) as client:
        yield client


@pytest.fixture
def lab(mock: MockServer) -> dict[str, object]:
    mock.scripts["quick"] = Script(text="one two three", gap=0.01)
    return {"base_url": mock.base_url, "protocol": "openai-chat", "max_retries": 0}


def streaming(mock: MockServer, count: int):
    """The exchanges of so many streams that are flowing now."""
    while len(found := [e for e in mock.exchanges if e.sent and e.closed_at is None]) < count:
        mock._arrived.acquire()
        mock._arrived.wait(0.02)
        mock._arrived.release()
    return found


def received() -> list[int]:
    """How many pieces the runs of this worker have."""
    from tokenstream_magic.experiments import cluster

    with cluster._here.changed:
        return [run.fold.pieces for runs in cluster._here.running.values() for run in runs]


def test_runs_are_timed_on_the_workers_and_kept_here(client, mock, lab, configuration, monkeypatch):
    hour = 3_600_000
    monkeypatch.setattr(cluster, "wall_clock", lambda: time_ns() + hour * 1_000_000)
    result = ts.sweep("{x}", ["quick", "unauthorized"], {"x": [1, 2, 3]}, repeat=2, warmup=1, client=client, **lab)
    assert Counter(t.outcome for t in result) == {"complete": 6, "failed": 6}
    assert len(mock.exchanges) == 12 + 2 * 2  # each of two workers warms up for each model
    frame = result.to_pandas()
    assert frame["host"].notna().all() and (frame["clock_offset_ms"] - hour).abs().max() < 60_000  # an hour ahead, not behind
    assert (frame["ttft_ms"].dropna() > 0).all() and frame["ttft_ms"].notna().sum() == 6
    kept = ts.transcripts.recent(50, tag=f"sweep:{result.id}")
    assert {t.id for t in result} < {t.id for t in kept} and all(t.host and t.clock_offset_ms is not None for t in kept)
    assert not (configuration.parent / "none").exists()  # the workers keep nothing themselves


def test_a_worker_has_one_run_at_a_time(client, mock, lab):
    result = ts.sweep("{x}", ["quick"], {"x": list(range(8))}, client=client, **lab)
    spans = [(e.sent[0], e.sent[-1]) for e in mock.exchanges]
    assert max(sum(start <= at <= end for start, end in spans) for at, _ in spans) <= 2
    assert len(result) == 8


def test_runs_that_meet_on_one_worker_wait_for_each_other(client, mock, lab):
    from tokenstream_magic import prompt

    flags = {**lab, "max_retries": 0}
    one = next(iter(client.nthreads()))
    tasks = [cluster.Task("MEET", 1, prompt.build(str(n)), "quick", flags, ()) for n in range(3)]
    answers = client.gather([client.submit(cluster.perform, task, workers=[one], pure=False) for task in tasks])
    spans = sorted((answer.transcript.timeline.requested, answer.transcript.timeline.closed) for answer in answers)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_the_key_is_the_workers_and_never_in_a_task(client, mock, configuration, monkeypatch, tmp_path):
    configuration.write_text(f'[endpoints.lab]\nprotocol = "openai-chat"\nbase_url = "{mock.base_url}"\napi_key_env = "LAB_KEY"\n')
    monkeypatch.setenv("LAB_KEY", KEY)
    (tmp_path / "tokenstream.toml").write_text(configuration.read_text())  # the driver knows the endpoint, too
    from distributed.protocol.pickle import dumps

    shipped = []
    submit = client.submit

    def watched(function, *arguments, **how):
        shipped.append(dumps((function, arguments, how)) + pickle.dumps(arguments))
        return submit(function, *arguments, **how)

    monkeypatch.setattr(client, "submit", watched)
    result = ts.sweep("{x}", ["lab/hello"], {"x": [1, 2]}, client=client)
    assert {t.outcome for t in result} == {"complete"}
    assert {e.headers["authorization"] for e in mock.exchanges} == {f"Bearer {KEY}"}
    assert len(shipped) == 2 and not any(KEY.encode() in task or mock.base_url.encode() in task for task in shipped)


def test_stop_reaches_the_sockets_of_every_worker(client, mock, lab):
    begun = sweeps.begin("{x}", ["endless"], {"x": list(range(6))}, client=client, **lab)
    flowing = streaming(mock, 2)
    while not all(counts and min(counts) for counts in client.run(received).values()):  # what was sent is not there yet
        pass
    begun.job.stop("button")
    assert all(exchange.closed.wait(20) for exchange in flowing)  # by themselves they would flow for minutes
    begun.job.wait()
    result = begun.settled()
    assert [t.stop_cause for t in result] == ["button", "button"] and all(t.text for t in result)
    assert len(mock.exchanges) == 2


def test_a_killed_worker_loses_no_finished_run_and_only_its_own_are_done_again(client, mock, lab):
    mock.scripts["steady"] = Script(text="one two three four five six", gap=0.05)
    begun = sweeps.begin("{x}", ["steady"], {"x": list(range(8))}, client=client, **lab)
    pids = client.run(os.getpid)
    mock.wait_for(4)
    streaming(mock, 2)
    finished = {t.id for t in begun.result.transcripts}
    os.kill(next(iter(pids.values())), signal.SIGKILL)
    sweeps.blocked(begun.job)
    result = begun.settled()
    assert {t.outcome for t in result} == {"complete"} and sorted(t.prompt for t in result) == [str(x) for x in range(8)]
    assert finished and finished <= {t.id for t in result}
    asked = Counter(e.body["messages"][-1]["content"] for e in mock.exchanges)
    assert sum(asked.values()) - 8 <= 1 and max(asked.values()) <= 2
    client.wait_for_workers(2, timeout=30)


def test_a_cluster_that_cannot_be_used_is_refused(client, mock, lab):
    with pytest.raises(BadRequest, match="not asynchronous"):
        ts.sweep("{x}", ["quick"], {"x": [1]}, client=object(), **lab)
    assert not mock.exchanges
    assert cluster.Answer(None, "").transcript is None
