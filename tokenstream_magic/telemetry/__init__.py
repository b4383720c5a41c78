"""OpenTelemetry: a span and metrics a run, by the names of the GenAI conventions.

Off unless it is asked for (``%config StreamMagics.otel = True``, or ``TOKENSTREAM_OTEL=1``): nothing leaves a machine because a
package happens to be installed. Providers that the program set up are used; without such the SDK's own are made, which
send by OTLP over HTTP where ``OTEL_EXPORTER_OTLP_ENDPOINT`` and its kin say. Prompts and answers are sent only when
``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` says so, keys in them masked.

Names: profile ``semconv-1.41`` (the last release that has them) or, asked for with ``TOKENSTREAM_OTEL_PROFILE``, ``genai-main``.
What the conventions have no name for is under ``tokenstream.``. A stream that was stopped or cut short has the finish
reason ``error``, as they want it; ``tokenstream.outcome`` tells which it was.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from time import monotonic_ns, time_ns
from typing import TYPE_CHECKING, Any

from tokenstream_magic import catalog
from tokenstream_magic.errors import BadRequest, one_line
from tokenstream_magic.plan import Plan
from tokenstream_magic.record import Transcript
from tokenstream_magic.redaction import Redactor
from tokenstream_magic.run import Run
from tokenstream_magic.telemetry.instruments import CONTENT, Instruments
from tokenstream_magic.telemetry.names import PROFILE_NAMES, PROFILES

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from tokenstream_magic.timing.timeline import Displayed

__all__ = ["CONTENT", "ENABLED", "PROFILE", "PROFILES", "Telemetry", "check", "flush", "is_on", "profile", "sink"]

log = logging.getLogger(__name__)

ENABLED = "TOKENSTREAM_OTEL"
PROFILE = "TOKENSTREAM_OTEL_PROFILE"

_lock = threading.Lock()
_instruments: dict[str, Instruments] = {}
_worker: ThreadPoolExecutor | None = None
_owner = 0


def is_on() -> bool:
    """Whether runs are told to OpenTelemetry."""
    on = os.environ.get(ENABLED, "").strip().lower() in ("1", "true", "yes", "on")
    return on and os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"


def check() -> None:
    """Raises BadRequest when it cannot be turned on: the packages are missing, or the profile is none."""
    if profile() not in PROFILES:
        raise BadRequest(f"There is no profile {one_line(profile())!r}.", f"There are: {', '.join(PROFILES)}.")
    try:
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError:
        raise BadRequest("OpenTelemetry is not installed.", 'Install it: pip install "tokenstream-magic[otel]".') from None


def profile() -> str:
    """The names in use."""
    return os.environ.get(PROFILE, "").strip() or PROFILES[0]


def sink() -> Telemetry | None:
    """A sink for a run that begins now, in the trace that is current here; None when it is off or cannot be."""
    if not is_on():
        return None
    try:
        check()
        from opentelemetry import context

        return Telemetry(_instrument(), context.get_current())
    except BadRequest as error:
        log.warning("%s Runs are not told to OpenTelemetry.", error)
        return None


def flush() -> None:
    """Waits until what was told is sent."""
    with _lock:
        worker, made = _worker, list(_instruments.values())
    if worker is not None:
        worker.submit(lambda: None).result()
    for instruments in made:
        instruments.flush()


class Telemetry:
    """The sink of one run. Spans are made at its end, with the times that were stamped, on a thread of their own."""

    def __init__(self, instruments: Instruments, context: Context) -> None:
        self._instruments = instruments
        self._context = context
        self._began = (time_ns(), monotonic_ns())
        self._is_shown = False

    def begin(self, run: Run) -> None:
        """The clocks are read together, so that stamps become times of day."""
        self._began = (time_ns(), monotonic_ns())

    def state(self, run: Run, state: str, detail: Mapping[str, Any]) -> None:
        """States are not told."""

    def content(self, run: Run, channel: str, text: str, choice: int) -> None:
        """The timeline has it."""

    def end(self, run: Run) -> None:
        """Hands the finished transcript over."""
        wall, clock = self._began
        ended = monotonic_ns()
        secrets = catalog.keys_in_use(run.plan.endpoint)
        requested = run.transcript.timeline.requested
        start = wall + ((requested if requested is not None else clock) - clock)
        worker = _thread()
        worker.submit(self._tell, run.plan, run.transcript, (start, wall + ended - clock), secrets)
        self.amended(run)

    def amended(self, run: Run) -> None:
        """How far the display was behind is told once: at the end, or when the page reports for the first time after it."""
        displayed = run.transcript.timeline.displayed
        if displayed is not None and not self._is_shown:
            self._is_shown = True
            _thread().submit(self._tell_shown, run.plan, run.transcript, displayed)

    def _tell_shown(self, plan: Plan, transcript: Transcript, displayed: Displayed) -> None:
        try:
            self._instruments.tell_shown(plan, transcript, displayed)
        except Exception:
            log.exception("how far the display of a run was behind could not be told to OpenTelemetry")

    def _tell(self, plan: Plan, transcript: Transcript, times: tuple[int, int], secrets: list[str]) -> None:
        try:
            self._instruments.tell(plan, transcript, times, self._context, Redactor(secrets))
        except Exception:
            log.exception("a run could not be told to OpenTelemetry")


def _instrument() -> Instruments:
    global _owner, _worker
    name = profile()
    with _lock:
        if _owner != os.getpid():
            _instruments.clear()
            _owner, _worker = os.getpid(), None
        if name not in _instruments:
            _instruments[name] = Instruments(PROFILE_NAMES[name])
        return _instruments[name]


def _thread() -> ThreadPoolExecutor:
    global _worker
    with _lock:
        if _worker is None:
            _worker = ThreadPoolExecutor(1, "tokenstream-otel")
        return _worker
