"""A PostgreSQL server of a test's own, from the Debian package, on a loopback port."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

USER, PASSWORD = "recapture", "correct-horse-71d3f0"
START_SECONDS = 60
# It refuses to run as root.
UNPRIVILEGED = ("postgres", "nobody")


@dataclass(frozen=True)
class Postgres:
    """A running server; it wants a password from whoever comes over TCP."""

    port: int

    def uri(self, database: str, *, driver: str = "", password: str | None = None) -> str:
        """Return a database's URI; without a password, clients take that of PGPASSWORD."""
        secret = f":{password}" if password else ""
        return f"postgresql{driver}://{USER}{secret}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> None:
        connection = self._connect("postgres")
        connection.autocommit = True  # a database cannot be made within a transaction
        try:
            connection.cursor().execute(f'CREATE DATABASE "{database}"')
        finally:
            connection.close()

    def rows(self, database: str, query: str) -> list[tuple[Any, ...]]:
        connection = self._connect(database)
        try:
            cursor = connection.cursor()
            cursor.execute(query)
            return list(cursor.fetchall())
        finally:
            connection.close()

    def text(self, database: str) -> str:
        """Return every row of every table as text."""
        tables = self.rows(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return "\n".join(str(self.rows(database, f'SELECT * FROM "{table}"')) for (table,) in tables)

    def _connect(self, database: str) -> Any:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database
        )


def programs() -> Path | None:
    """Return the folder of initdb and postgres, of the newest version where there are several."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]), default=None)


@contextmanager
def postgres_server(binaries: Path) -> Iterator[Postgres]:
    """Start a server over an empty cluster in a temporary folder; end it and remove the folder."""
    account = _account()
    with tempfile.TemporaryDirectory(prefix="recapture-postgres-", ignore_cleanup_errors=True) as folder:
        secret, log = Path(folder, "password"), Path(folder, "log")
        secret.write_text(PASSWORD)
        if account is not None:
            for path in (folder, secret):
                shutil.chown(path, account)
        data = str(Path(folder, "data"))
        make = [*(str(binaries / "initdb"), "-D", data, "-U", USER, "--pwfile", str(secret)), "--no-sync"]
        make += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        subprocess.run(make, user=account, cwd=folder, check=True, capture_output=True, timeout=120)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    *(str(binaries / "postgres"), "-D", data, "-p", str(port), "-h", "127.0.0.1"),
                    *("-k", folder, "-c", "fsync=off"),
                ],
                user=account,
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        server = Postgres(port)
        try:
            _wait(server, process, log)
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # fast: whoever is still connected is cut off
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(server: Postgres, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            server.rows("postgres", "SELECT 1")
            return
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {error}\n{log.read_text()}") from None
            time.sleep(0.1)


def _account() -> str | None:
    """Return whom the server runs as: ourselves (None), unless that is root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in UNPRIVILEGED if name in known)
