"""From the Stop click to the server seeing the connection close, in a real kernel, with the cell running.

The click is the page's comm message as JupyterLab sends it; the server is a scripted one on loopback in this
process, and both stamps are of the same monotonic clock. The peer is what a flag tested between chunks gives: it
waits for the next chunk, and in a stall there is none.

Bar: p50 at most 15 ms, p99 at most 50 ms, also in a stall.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from time import monotonic_ns

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "tests" / "kernel")]

from harness import Kernel
from peers import print_table, quantile

from tokenstream_magic.mock.script import Script, words
from tokenstream_magic.mock.server import MockServer

ROUNDS = 100
GAP = 0.25


def stop_once(kernel: Kernel, server: MockServer, script: str, road: str, shell: str) -> float:
    """Starts a stream, stops it by a road, and returns ms until the server saw the close."""
    count = len(server.exchanges)
    request = kernel.start(f"%%stream {script} --base-url {server.base_url} -n\nGo on.")
    comm = kernel.opened(request)
    exchange = server.wait_for(count + 1)
    kernel.wait_op(comm, "append", n=8) if script == "stall" else kernel.wait_op(comm, "append", count=2)
    clicked = monotonic_ns()
    if road == "button":
        kernel.comm(comm, {"op": "stop"}, shell)
    else:
        kernel.interrupt()
    if not exchange.closed.wait(20):
        raise SystemExit(f"{script}/{road}: the server never saw the close")
    kernel.finish(request)
    kernel.messages.clear()
    return (exchange.closed_at - clicked) / 1e6


def main() -> None:
    """Prints the figures for the button and the interrupt, streaming and in a stall."""
    os.environ["TOKENSTREAM_DATABASE"] = str(Path(tempfile.mkdtemp()) / "transcripts.db")
    rows, missed = [], False
    scripts = {"paced": Script(words("word " * 4000), gap=0.0125), "slow": Script(words("word " * 400), gap=GAP)}
    with MockServer(scripts) as server, Kernel() as kernel:
        kernel.run("%load_ext tokenstream_magic")
        shell = kernel.subshell()
        for script, what in (("paced", "80 chunks/s"), ("slow", "4 chunks/s"), ("stall", "mid-stall")):
            for road in ("button", "interrupt"):
                rounds = ROUNDS if road == "button" else ROUNDS // 4
                times = [stop_once(kernel, server, script, road, shell) for _ in range(rounds)]
                p50, p99 = quantile(times, 50), quantile(times, 99)
                flag = {"paced": 12.5 / 2, "slow": GAP * 1000 / 2}.get(script)
                rows.append([
                    what, road, str(rounds), f"{p50:.1f}", f"{p99:.1f}", f"{max(times):.1f}",
                    f"{flag:.1f}" if flag else "never", f"{flag / p50:.1f}" if flag else "-",
                ])  # fmt: skip
                missed |= road == "button" and (p50 > 15 or p99 > 50)
        version = kernel.value("__import__('ipykernel').__version__")
    print(f"ipykernel {version}; ms from the click to the server seeing the close")
    print_table(["stream", "road", "n", "p50", "p99", "max", "flag between chunks, mean", "ratio"], rows)
    print(f"bar for the button: p50 <= 15, p99 <= 50: {'MISSED' if missed else 'met'}")


if __name__ == "__main__":
    main()
