"""A real PostgreSQL server of the tests' own: on a Unix socket in a temporary directory, killed and started at will."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from time import monotonic

from support import REPOSITORY

STARTUP_SECONDS = 30
STEP_SECONDS = 0.05


class Server:
    """``url`` names a database on it. With ``TOKENSTREAM_TEST_POSTGRES`` it is somebody else's, and is only used."""

    def __init__(self) -> None:
        self.named = os.environ.get("TOKENSTREAM_TEST_POSTGRES")
        self.process: subprocess.Popen[bytes] | None = None
        self.databases = 0
        if self.named:
            return
        found = subprocess.run(["sh", str(REPOSITORY / "scripts" / "postgres.sh")], capture_output=True, text=True)
        if found.returncode:
            raise RuntimeError(found.stderr.strip())
        self.programs = Path(found.stdout.strip())
        self.home = Path(tempfile.mkdtemp(prefix="ts-pg-", dir="/tmp"))
        self.data = self.home / "data"
        if os.geteuid() == 0:  # the server refuses to run as root
            shutil.chown(self.home, "postgres", "postgres")
        self._run("initdb", "-D", str(self.data), "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8")
        self.start()

    def start(self) -> None:
        log = (self.home / "log").open("ab")
        options = ["-D", str(self.data), "-k", str(self.home)]
        for setting in ("listen_addresses=", "max_connections=60", "fsync=off"):  # only the server dies here, not the machine
            options += ["-c", setting]
        self.process = subprocess.Popen(
            [str(self.programs / "postgres"), *options], stdout=log, stderr=log, cwd=self.home, start_new_session=True, **self._user()
        )
        log.close()
        until = monotonic() + STARTUP_SECONDS
        ready = [str(self.programs / "pg_isready"), "-q", "-h", str(self.home)]
        while subprocess.run(ready).returncode != 0:
            if monotonic() > until or self.process.poll() is not None:
                raise RuntimeError((self.home / "log").read_text()[-2000:])
            try:
                self.process.wait(STEP_SECONDS)
            except subprocess.TimeoutExpired:
                continue

    @property
    def is_up(self) -> bool:
        return self.named is not None or (self.process is not None and self.process.poll() is None)

    def kill(self) -> None:
        """The whole server at once, as a power cut would."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        for left in self.home.glob(".s.PGSQL.*"):
            left.unlink()

    def create(self) -> str:
        """A new, empty database; its address."""
        import psycopg

        self.databases += 1
        name = f"ts_{os.getpid()}_{self.databases}"
        base = self.named or f"postgresql://tester@/postgres?host={self.home}"
        with psycopg.connect(base.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        import sqlalchemy as sa

        return sa.make_url(base).set(database=name, drivername="postgresql+psycopg").render_as_string(hide_password=False)

    def close(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
            shutil.rmtree(self.home, ignore_errors=True)

    def _user(self) -> dict[str, object]:
        return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run([str(self.programs / program), *arguments], check=True, stdout=subprocess.DEVNULL, cwd=self.home, **self._user())
