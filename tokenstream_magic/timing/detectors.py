"""What can go wrong with a stream, one function a fault. Pure: a case in, a finding out.

Every threshold is a constant beside its detectors, with where it comes from; ``docs/diagnosis.md`` has a section for each.
"""

from __future__ import annotations

from collections.abc import Callable

from tokenstream_magic.timing.faults_of_delivery import bursts, compression, held_back, slow_display
from tokenstream_magic.timing.faults_of_ending import error_after_200, missing_usage, stop_did_not_stop, token_limit, truncated
from tokenstream_magic.timing.faults_of_silence import keep_alive_only, stall
from tokenstream_magic.timing.findings import Case, Finding

DETECTORS: tuple[Callable[[Case], Finding], ...] = (
    held_back, bursts, compression, truncated, token_limit, error_after_200, stall, keep_alive_only, missing_usage, slow_display,
    stop_did_not_stop,
)  # fmt: skip
"""All detectors, in the order of a report."""
