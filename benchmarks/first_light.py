"""The embedded model: how soon its server is ready, the first token comes, and how fast it goes on.

The peer is llama.cpp's own account of the same run, so the difference is what the client and the socket add.
Bar: ready in under 2 s once the file is there.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path
from time import monotonic

from peers import print_table

import tokenstream_magic as ts
from tokenstream_magic.local import fetch, server

ROUNDS = 7


def main() -> None:
    """Prints the figures."""
    os.environ["TOKENSTREAM_DATABASE"] = str(Path(tempfile.mkdtemp()) / "transcripts.db")
    model = fetch.pull()
    ready = []
    for _ in range(5):
        server.close()
        started = monotonic()
        server.ensure(model)
        ready.append(monotonic() - started)
    runs = [ts.stream("Why is the sky blue? Answer in three sentences.", temperature=0, seed=1) for _ in range(ROUNDS)]
    ttft = statistics.median(t.timing.ttft_ms for t in runs)
    prefill = statistics.median(t.timing.server["prompt_ms"] for t in runs)
    rate = statistics.median(t.timing.decode_tokens_per_second for t in runs)
    served = statistics.median(t.timing.server["predicted_per_second"] for t in runs)
    rows = [
        ["server ready, s", f"{statistics.median(ready):.2f}", "-", "-"],
        ["first token, ms", f"{ttft:.1f}", f"{prefill:.1f}", f"{ttft / prefill:.2f}"],
        ["tokens/s", f"{rate:.1f}", f"{served:.1f}", f"{rate / served:.2f}"],
    ]
    print_table(["median", "measured here", "llama.cpp says", "ratio"], rows)
    print(f"bar: ready in under 2 s: {'met' if max(ready) < 2 else 'MISSED'} (longest {max(ready):.2f} s)")
    assert len({t.text for t in runs}) == 1, "the seed did not repeat the words"


if __name__ == "__main__":
    main()
