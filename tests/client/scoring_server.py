"""A small HTTP cluster in a process of its own, which can be too busy and can die.

    python scoring_server.py --port 8123 --capacity 4 --die-after 50

It scores a conversation with the number that its response ends with, else its length. More than
`capacity` requests at a time are refused with 429; after `die-after` requests the process ends at
once, as by SIGKILL, with requests in flight.
"""

import argparse
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from rewardserve_client._types import (
    Reward,
    RewardsItem,
    RewardsRequest,
    RewardsResponse,
    ServedModel,
    ServedModels,
    as_conversations,
)

SERVICE_TIME_S = 0.01


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        models = ServedModels(data=[ServedModel(id="default", kind="model")])
        self.reply(200, models.model_dump_json() if self.path == "/v1/models" else "{}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.arrived()
        if not self.server.free.acquire(blocking=False):
            error = {"message": "the queue is full", "type": "Busy", "code": "busy"}
            self.reply(429, json.dumps({"error": error}), {"Retry-After": "1"})
            return
        try:
            time.sleep(SERVICE_TIME_S)
            answer = scored(RewardsRequest.model_validate_json(body))
        finally:
            self.server.free.release()
        self.reply(200, answer.model_dump_json())

    def reply(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        content = body.encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing is logged."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, capacity: int, die_after: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.free = threading.Semaphore(capacity)
        self._left = die_after
        self._counting = threading.Lock()

    def arrived(self) -> None:
        with self._counting:
            self._left -= 1
            if self._left == 0:
                os._exit(1)


def scored(request: RewardsRequest) -> RewardsResponse:
    data = [
        RewardsItem(
            index=index,
            rewards=[
                Reward(score=score_of(turns[-1]["content"]), model=request.model)
                for turns in as_conversations(item)
            ],
        )
        for index, item in enumerate(request.inputs)
    ]
    return RewardsResponse(id="rw", model=request.model, created=0, data=data)


def score_of(response: str) -> float:
    last = response.split()[-1:]
    return float(last[0]) if last and last[0].isdecimal() else float(len(response))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--capacity", type=int, default=64)
    parser.add_argument("--die-after", type=int, default=-1)
    args = parser.parse_args()
    server = Server(args.port, args.capacity, args.die_after)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
