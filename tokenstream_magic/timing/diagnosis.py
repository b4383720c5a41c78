"""Is streaming helping? The diagnosis of one run: what streaming did for its reader, and what went wrong with it.

Everything follows from what the transcript keeps: no clock, no network. The signals are in ``reading.py``, the faults and
their thresholds in ``detectors.py``; ``docs/diagnosis.md`` explains both. A diagnosis holds no text of the model or the
server: what it says is written here, so it can be shown anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from tokenstream_magic.timing.detectors import DETECTORS
from tokenstream_magic.timing.faults_of_delivery import NOTICEABLE
from tokenstream_magic.timing.findings import Case, Finding, Recorded, seconds
from tokenstream_magic.timing.reading import CHARACTERS_PER_SECOND, WORDS_PER_MINUTE, Signals, Usual
from tokenstream_magic.timing.shown import Shown

__all__ = ["Diagnosis", "Finding", "Signals", "Usual", "diagnose", "usual"]

Helped = Literal["yes", "little", "no", "nothing to save", "unknown"]

_HARDLY = 0.1
"""The share of the wait below which what was saved is not worth the name."""
_WAITING = 0.5
"""Seconds at the end of the text that a reader takes for no wait: the eye still moves."""

# what stands behind "But", worst first; the others are part of the first sentence or no trouble for the reader
_BUT = ("error_after_200", "truncated", "keep_alive_only", "stall", "stop_did_not_stop", "token_limit", "slow_display", "compression")


@dataclass(frozen=True)
class Diagnosis:
    """What streaming did in one run. ``headline`` is the answer in a sentence or two, ``helped`` in a word.

    ``findings`` are the verdicts of all detectors, ``problems`` those that found a fault.
    """

    helped: Helped
    headline: str
    signals: Signals
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The faults that were found."""
        return tuple(finding for finding in self.findings if finding.verdict == "found")

    def __getitem__(self, name: str) -> Finding:
        """The verdict of a detector, by its name. Raises KeyError for a name that none has."""
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(name)

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "helped": self.helped,
            "headline": self.headline,
            "signals": self.signals.as_dict(),
            "findings": [finding.as_dict() for finding in self.findings],
        }

    def __str__(self) -> str:
        lines = [self.headline, ""]
        width = max(len(name) for name, _ in _told(self.signals))
        lines += [f"  {name:<{width}}  {value}" for name, value in _told(self.signals)]
        for finding in self.problems:
            lines += ["", f"! {_title(finding)}: {finding.summary}"]
            lines += [f"    {_evidence(finding)}"] if finding.evidence else []
            lines += [f"    found when: {finding.threshold}", f"    {finding.advice}", f"    {finding.link}"]
        lines += ["", *_others(self.findings)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Diagnosis: {self.headline}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Plain text and Markdown. Every word of it is ours: nothing a model or server wrote is in it."""
        lines = [f"**{self.headline}**", "", "| signal | |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in _told(self.signals)]
        if self.problems:
            lines += ["", "| found | evidence | threshold | what to do |", "|---|---|---|---|"]
            lines += [
                f"| **{_title(f)}**: {_cell(f.summary)} | {_cell(_evidence(f))} | {_cell(f.threshold)} | {_cell(f.advice)} (`{f.link}`) |"
                for f in self.problems
            ]
        lines += ["", *(f"{line}  " for line in _others(self.findings))]
        return {"text/plain": str(self), "text/markdown": "\n".join(lines)}


def diagnose(run: Recorded, *, shown: Shown | None = None, usual: Usual | None = None) -> Diagnosis:
    """The diagnosis of a settled run, such as a Transcript.

    ``shown`` is what a display measured of its own lag; ``usual`` what answers to the same prompt took that nobody stopped,
    for the estimate of what a Stop saved.
    """
    case = Case(run, shown, usual)
    findings = tuple(detect(case) for detect in DETECTORS)
    found = {finding.name: finding for finding in findings if finding.verdict == "found"}
    helped, sentence = _judged(case, found)
    worst = next((found[name] for name in _BUT if name in found), None)
    headline = sentence if worst is None else f"{sentence} {'But: ' if helped == 'yes' else ''}{worst.summary}"
    return Diagnosis(helped, headline, case.signals, findings)


def usual(answers: Iterable[Recorded]) -> Usual | None:
    """What complete answers took: the medians of those whose tokens were counted; None without any."""
    counted = [
        (run.usage.output_tokens, sum(stamp.characters for stamp in run.timeline))
        for run in answers
        if run.outcome == "complete" and run.usage.output_tokens is not None
    ]
    return Usual(median(n for n, _ in counted), median(n for _, n in counted)) if counted else None


def _judged(case: Case, found: dict[str, Finding]) -> tuple[Helped, str]:
    """Whether streaming helped, in a word and in a sentence."""
    told, run = case.signals, case.run
    if run.outcome == "running":
        return "unknown", "The answer is still coming."
    first, total = told.first_seconds, told.total_seconds
    if first is None or total is None:
        if len(run.timeline):
            return "unknown", "There are no times in this record."
        waited = f" in {seconds(case.ended_after)}" if case.ended_after is not None else ""
        return "unknown", f"No text came{waited}."
    if "held_back" in found:
        whole = (
            "the server sent it whole"
            if found["held_back"].summary.startswith("The server")
            else "something on the way holds the answer back"
        )
        return "no", f"Streaming did not help: everything arrived at once after {seconds(total)}: {whole}."
    if total < NOTICEABLE:
        whole = "The whole answer" if run.outcome == "complete" else "All that came"
        return "nothing to save", f"{whole} was there after {seconds(total)}: there was no wait to save."
    if "bursts" in found:
        return "little", f"Streaming helped less than it could: {_lowered(found['bursts'].summary)}"
    if total - first < _HARDLY * total:
        return (
            "little",
            f"Streaming hardly helped: the first words came after {seconds(first)} of {seconds(total)}, the rest soon after them.",
        )
    starved = told.starved_seconds
    kept = "."
    if starved is not None:
        kept = "; you were never kept waiting." if starved < _WAITING else f"; then you were kept waiting for {seconds(starved)} in all."
    began = told.total_seconds - told.wait_saved_seconds if told.total_seconds and told.wait_saved_seconds is not None else None
    thought = f" (of its thoughts; the answer after {seconds(began)})" if began is not None and began - first >= NOTICEABLE else ""
    return "yes", f"Streaming helped: the first words{thought} came after {seconds(first)} of {seconds(total)}{kept}"


def _told(told: Signals) -> Iterable[tuple[str, str]]:
    """The signals by a name for readers, with their unit."""

    def given(value: float | None, text: str) -> str:
        return "unknown" if value is None else text.format(value)

    yield "first words after", given(told.first_seconds, "{:.2f} s")
    yield "last words after", given(told.total_seconds, "{:.2f} s")
    share = "" if told.wait_saved_share is None else f" ({told.wait_saved_share:.0%} of it)"
    yield "wait saved", given(told.wait_saved_seconds, "{:.2f} s") + share
    ahead = told.read_ahead_characters
    margin = "" if ahead is None else f" ({ahead / CHARACTERS_PER_SECOND:+.1f} s of reading at {WORDS_PER_MINUTE} words a minute)"
    yield "least read-ahead", given(ahead, "{:.0f} character" + ("" if ahead is not None and round(ahead) == 1 else "s")) + margin
    yield "kept waiting after that", given(told.starved_seconds, "{:.2f} s")
    yield "QoE", given(told.qoe, "{:.2f} (1 is best, 0.9 is good)")
    yield "fluidity", given(told.fluidity, "{:.2f} (share of token deadlines met)")
    if told.waste_avoided_tokens is not None:
        yield "saved by Stop", f"about {told.waste_avoided_tokens} tokens"


def _others(findings: Iterable[Finding]) -> Iterable[str]:
    """What was looked for and not found, in a line, and what could not be told."""
    clear = [_title(finding) for finding in findings if finding.verdict == "clear"]
    if clear:
        yield f"Not found: {', '.join(clear)}."
    for finding in findings:
        if finding.verdict == "unknown":
            yield f"Cannot be told: {_title(finding)}. {finding.summary}"


def _title(finding: Finding) -> str:
    return finding.name.replace("_", " ")


def _evidence(finding: Finding) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {'unknown' if value is None else value}" for name, value in finding.evidence.items())


def _cell(text: str) -> str:
    return text.replace("|", "/")


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
