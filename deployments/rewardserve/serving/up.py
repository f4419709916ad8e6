"""Brings a checked cluster up, waits until it answers, and takes down what it started.

Without an address a Ray of its own is started, serves until Ctrl-C or SIGTERM, and ends. With the
address of a running Ray the applications are deployed there and stay: only those whose settings
changed restart. Knows nothing of what is in the file.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray import serve
from ray.serve._private.api import serve_start
from ray.serve.schema import ApplicationStatus

from rewardserve.errors import SettingsError
from rewardserve.serving.cluster_file import ClusterFile
from rewardserve.serving.ports import check_port_is_free

POLL_S = 0.5

Announce = Callable[[str], None]
"""Told one line at a time how far things are."""


def up(cluster: ClusterFile, announce: Announce, *, address: str | None = None) -> None:
    """Serve `cluster`; blocks until interrupted unless it was deployed to a Ray at `address`.

    Raises SettingsError when an application fails to deploy or the port is taken.
    """
    if address:
        ray.init(address=address, log_to_driver=False)
        deploy(cluster, announce)
        return
    # In this order: Ray installs a SIGTERM handler of its own when it starts.
    with own_ray(cluster), _stopped_by_signals() as stopped:
        deploy(cluster, announce, stopped)
        stopped.wait()
        announce("stopping")


@contextlib.contextmanager
def own_ray(cluster: ClusterFile) -> Iterator[None]:
    """A Ray on this machine alone, for `cluster`, that ends with the block."""
    check_port_is_free(*cluster.address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", log_to_driver=False)
    try:
        yield
    finally:
        # Ray prints a remark about each task that its own shutdown ends.
        with contextlib.redirect_stdout(None):
            serve.shutdown()  # type: ignore[no-untyped-call]
            ray.shutdown()


def deploy(
    cluster: ClusterFile, announce: Announce, stopped: threading.Event | None = None
) -> None:
    """Deploy to the Ray this process is connected to; returns when everything runs.

    Raises SettingsError when an application fails to deploy. `stopped` gives up waiting.
    """
    options: dict[str, Any] = cluster.config.http_options.model_dump()
    client = serve_start(http_options=options, proxy_location=cluster.config.proxy_location)
    # The way of `serve deploy`: applications whose settings are unchanged keep running.
    client.deploy_apps(cluster.config)
    names = [application.name for application in cluster.config.applications]
    _wait_until_running(names, announce, stopped or threading.Event())
    host, port = cluster.address
    announce(f"ready at http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}")  # noqa: S104


def _wait_until_running(names: list[str], announce: Announce, stopped: threading.Event) -> None:
    waiting = list(names)
    while waiting and not stopped.wait(POLL_S):
        applications = serve.status().applications
        for name in list(waiting):
            status = applications[name].status if name in applications else None
            if status == ApplicationStatus.DEPLOY_FAILED:
                raise SettingsError(f"`{name}` was not deployed: {applications[name].message}")
            if status == ApplicationStatus.RUNNING:
                waiting.remove(name)
                announce(f"{name} is up ({len(names) - len(waiting)} of {len(names)})")


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, instead of killing the process."""
    stopped = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in numbers}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
