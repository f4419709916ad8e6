"""An ASGI app over a real socket, for tests of clients and proxies that need one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from tests.serve.conftest import free_port


@contextmanager
def served_on(app: Any) -> Iterator[str]:
    """Serves `app` from a thread; gives `host:port` once it listens."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, lifespan="off", ws="none", log_level="error")
    )
    started = threading.Event()
    server.startup = _telling(server.startup, started)  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert started.wait(30)
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def _telling(startup: Any, started: threading.Event) -> Any:
    async def start(*arguments: Any, **options: Any) -> None:
        await startup(*arguments, **options)
        started.set()

    return start
