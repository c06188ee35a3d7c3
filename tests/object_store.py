"""A real S3 server for tests, in this process: what it is asked, and how it refuses, dies and comes back."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import obstore.store
from moto import settings
from moto.server import ThreadedMotoServer

from distnnd.storage import stores

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "of-no-value", "AWS_REGION": "us-east-1"}
BUCKET = "bucket"


class Server:
    """An S3 server on this machine with one bucket, which the environment of this process names."""

    def __init__(self) -> None:
        self._port, self._server = 0, None
        self.asked: Counter[tuple[str, str]] = Counter()
        self._log = logging.getLogger("werkzeug")
        self._listener = logging.Handler()
        self._listener.emit = self._note

    def start(self) -> None:
        """Serve; again at the same address, with all objects, after a stop."""
        self._server = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
        self._server.start()
        self._port = self._server.get_host_and_port()[1]
        self._log.setLevel(logging.INFO)
        self._log.propagate = False
        self._log.handlers = [self._listener]

    def stop(self) -> None:
        """Go away: nobody answers any more."""
        self._server.stop()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def _note(self, record: logging.LogRecord) -> None:
        if found := re.search(r"([A-Z]+) (/\S*) HTTP", record.getMessage()):
            self.asked[found[1], found[2]] += 1

    def requests(self, method: str, part: str = "") -> int:
        """How often it was asked so, of paths that hold `part`."""
        return sum(count for (how, path), count in self.asked.items() if how == method and part in path)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Know nobody's keys."""
        before, settings.INITIAL_NO_AUTH_ACTION_COUNT = settings.INITIAL_NO_AUTH_ACTION_COUNT, 0
        try:
            yield
        finally:
            settings.INITIAL_NO_AUTH_ACTION_COUNT = before


@contextmanager
def serving() -> Iterator[Server]:
    """A server with its bucket; the environment is as it was afterwards."""
    before = dict(os.environ)
    server = Server()
    server.start()
    # What a developer's own environment holds, no test should follow.
    for name in [name for name in before if name.startswith("AWS_") or name.lower() in ("http_proxy", "all_proxy")]:
        del os.environ[name]
    os.environ.update(KEYS, AWS_ENDPOINT_URL=server.address, AWS_ALLOW_HTTP="true")
    stores.forget()
    # To create a bucket is a PUT of nothing at its root.
    obstore.put(obstore.store.HTTPStore.from_url(server.address, client_options={"allow_http": True}), BUCKET, b"")
    try:
        yield server
    finally:
        server.stop()
        os.environ.clear()
        os.environ.update(before)
        stores.forget()
