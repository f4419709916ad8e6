"""Whether a port can be listened on."""

import socket

from rewardserve.errors import SettingsError


def check_port_is_free(host: str, port: int) -> None:
    """Raises SettingsError when something listens there, or the host is not this machine's."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"port {port} on {host} is not free ({error.strerror}): end what listens there "
                "or set http_options.port"
            ) from None
