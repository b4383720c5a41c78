"""Does the diagnosis find what is wrong with a stream, and nothing else?

Labelled traces of fifteen clean and twenty-four faulty kinds, each with a random pace, length, jitter and protocol from a seed, are
played by the mock server over real sockets in real time; our client reads them and every transcript is diagnosed. Some real
answers of the local model are among the clean ones, when it is there. A trace is right when the faults that were found are
exactly those it has. Bar: all of them, no false alarm.

    python benchmarks/diagnosis.py [SEED [COUNT]]
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import monotonic

from paced import PATHS, Learning, PacedServer, Page, Trace, clinging
from peers import print_table
from traces import draw

from tokenstream_magic import api, asking
from tokenstream_magic.record import Transcript
from tokenstream_magic.timing.detectors import DETECTORS
from tokenstream_magic.timing.diagnosis import Diagnosis, diagnose
from tokenstream_magic.timing.faults_of_delivery import DISPLAY

COUNT = 320
AT_ONCE = 64
LEAST = 300
TRIES = 3
LOCAL = ("Say hello.", "What is the capital of France?", "Count to ten.")


@dataclass
class Played:
    """A trace and what became of it."""

    kind: str
    expected: frozenset[str]
    transcript: Transcript
    diagnosis: Diagnosis

    @property
    def found(self) -> frozenset[str]:
        """The faults that were found."""
        return frozenset(finding.name for finding in self.diagnosis.problems)


def played(name: str, trace: Trace, server: PacedServer) -> Played | None:
    """A trace and its diagnosis. None when this machine was too busy, in each of some tries, to show a clean one in time."""
    for _ in range(TRIES):
        one, page = play(name, trace, server)
        late = page is not None and not trace.hidden and (page.real.percentile_ms(99) or 0.0) > 1000 * DISPLAY
        if not late or "slow_display" in trace.expected:
            return one
    print(f"left out: {trace.kind}, whose page was late: this machine is too busy")
    return None


def play(name: str, trace: Trace, server: PacedServer) -> tuple[Played, Page | None]:
    """Asks for a trace, as a cell would, and diagnoses the answer."""
    base_url = f"http://127.0.0.1:{server.port}{'/' + name if trace.slots else ''}{PATHS[trace.protocol]}"
    prepared = asking.ask("Hi", name, base_url=base_url, protocol=trace.protocol, no_log=True, **trace.ask)
    plan = prepared.plan
    if trace.lasting:
        plan = replace(plan, endpoint=replace(plan.endpoint, resumable=True))
    if trace.closes_after is not None:
        plan = replace(plan, client=clinging(trace.closes_after))
    page = Page(trace.frame_seconds, trace.lead, hidden=trace.hidden) if trace.frame_seconds is not None else None
    learning = Learning()
    run = api.begin(replace(prepared, plan=plan), sinks=[*([page] if page is not None else []), learning])
    if trace.stop_after is not None:
        timer = threading.Timer(trace.stop_after, run.stop, ["button"])
        timer.start()
    transcript = run.wait()
    if page is not None:
        transcript.timeline.displayed = page.finish()
    if trace.slots is not None:
        learning.learned.wait(10)
    return Played(trace.kind, trace.expected, transcript, diagnose(transcript)), page


def local() -> list[Played]:
    """Real answers of the embedded model, one after the other; none when it is not installed.

    An answer that really stood still, because this machine was too busy, is no clean one: it is asked for again.
    """
    answers: list[Played] = []
    for prompt in LOCAL:
        for _ in range(TRIES):
            transcript = api.start(prompt, "local", max_tokens=40, temperature=0, no_log=True).wait()
            if transcript.timing.chunks == 0:
                print(f"local model left out: {(transcript.error or {}).get('message', 'no text')}")
                return answers
            if not transcript.timing.stalls:
                limited = frozenset(["token_limit"]) if transcript.finish_reason == "length" else frozenset()
                answers.append(Played("clean: llama.cpp here", limited, transcript, transcript.diagnosis))
                break
        else:
            print(f"left out: {prompt!r} to the local model, which stood still in each of {TRIES} answers: this machine is too busy")
    return answers


def report(played: Sequence[Played]) -> bool:
    """Prints what was found in each kind, then the table of confusion of each detector. Whether all of it was right."""
    rows = []
    for kind in sorted({one.kind for one in played}, key=lambda kind: (not kind.startswith("clean"), kind)):
        these = [one for one in played if one.kind == kind]
        labels = ", ".join(sorted(frozenset.union(*(one.expected for one in these)))) or "-"
        missed = sum(not one.expected <= one.found for one in these)
        rows.append([kind, labels, str(len(these)), str(missed), str(sum(bool(one.found - one.expected) for one in these))])
    print_table(["kind", "faults", "traces", "missed", "false alarms"], rows)
    print()
    confusion: Counter[tuple[str, bool, bool]] = Counter()
    names = [detect.__name__ for detect in DETECTORS]
    for one in played:
        confusion.update((name, name in one.expected, name in one.found) for name in names)
    print_table(
        ["detector", "found", "missed", "false alarms", "rightly clear", "recall", "precision"],
        [
            _row(name, *(confusion[name, there, seen] for there, seen in ((True, True), (True, False), (False, True), (False, False))))
            for name in names
        ],
    )
    wrong = [one for one in played if one.found != one.expected]
    for one in wrong:
        print(f"\nwrong: {one.kind} ({one.transcript.protocol}), expected {sorted(one.expected)}, found {sorted(one.found)}")
        for name in sorted(one.expected ^ one.found):
            print(f"  {name}: {one.diagnosis[name].summary} {one.diagnosis[name].evidence}")
    return not wrong


def _row(name: str, found: int, missed: int, false: int, clear: int) -> list[str]:
    recall = f"{found / (found + missed):.1%}" if found + missed else "-"
    precision = f"{found / (found + false):.1%}" if found + false else "-"
    return [name, str(found), str(missed), str(false), str(clear), recall, precision]


def main(seed: int = 1, count: int = COUNT) -> int:
    """Plays and reports; 1 when anything was wrong."""
    drawn = sorted(draw(seed, count), key=lambda trace: sum(wait for wait, _ in trace.writes), reverse=True)  # no long one at the end
    traces = {f"trace-{number}": trace for number, trace in enumerate(drawn)}
    began = monotonic()
    with PacedServer(traces) as server, ThreadPoolExecutor(AT_ONCE) as pool:
        found = [one for one in pool.map(lambda item: played(item[0], item[1], server), traces.items()) if one is not None]
    found += local()
    right = report(found)
    clean = sum(not one.expected for one in found)
    print(f"\nseed {seed}: {len(found)} traces, {clean} of them clean, {monotonic() - began:.0f} s;", end=" ")
    print("all faults found, no false alarm" if right else "NOT all right")
    faulty = len({one.kind for one in found if one.expected and not one.kind.startswith("clean")})
    wide = len(found) >= LEAST and faulty >= 10
    print(f"bar: {LEAST} traces, ten kinds and clean ones, 100 % found, 0 false alarms: {'met' if right and wide else 'MISSED'}")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
