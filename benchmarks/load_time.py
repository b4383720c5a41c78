"""How long ``%load_ext tokenstream_magic`` takes in a fresh kernel, beside importing what it puts off.

Bar: at most 50 ms added, and none of httpx, SQLAlchemy, ipywidgets imported.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from peers import print_table

ROUNDS = 15
HEAVY = ("httpx", "sqlalchemy", "ipywidgets")
SHELL = "from IPython.core.interactiveshell import InteractiveShell; import ipykernel.zmqshell, time, sys; ip = InteractiveShell.instance()"
MEASURE = "; t = time.perf_counter(); {do}; ms = (time.perf_counter() - t) * 1e3; print(ms, *[n for n in {heavy!r} if n in sys.modules])"


def measure(do: str) -> tuple[float, set[str]]:
    """The median of fresh processes, in ms, and which heavy packages were there afterwards."""
    times, loaded = [], set()
    for _ in range(ROUNDS):
        program = SHELL + MEASURE.format(do=do, heavy=HEAVY)
        words = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
        times.append(float(words[0]))
        loaded.update(words[1:])
    return statistics.median(times), loaded


def main() -> None:
    """Prints the figure beside its peers, from one run."""
    ours, loaded = measure("ip.run_line_magic('load_ext', 'tokenstream_magic')")
    rows = [["%load_ext tokenstream_magic", f"{ours:.1f}", "1.0", ", ".join(loaded) or "none"]]
    for name in HEAVY:
        peer, _ = measure(f"import {name}")
        rows.append([f"import {name}", f"{peer:.1f}", f"{peer / ours:.1f}", name])
    print_table(["fresh process, median of 15", "ms", "ratio", "heavy imports"], rows)
    assert not loaded, "load_ext must import nothing heavy"
    print(f"bar: 50 ms; measured {ours:.1f} ms: {'met' if ours <= 50 else 'MISSED'}")


if __name__ == "__main__":
    main()
