"""A process that holds an encoder: ``python -m akt_spark.content.model_server SOCKET OWNER IDLE_SECONDS``.

All that looks at a row's content runs here, so that a row which ends its process (a fault in native code, no memory
left) ends this one and not Spark's Python worker. `ModelProcess` is the worker's side, and starts it.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection

from akt_spark.content.encoders import Encoder
from akt_spark.content.encoding import encode_rows
from akt_spark.content.model_messages import Answer, Begun, Encode, Finished, Load, Refused

OWNER_SECONDS = 0.5  # between two looks whether the owner lives


class Server:
    """Serves one worker after the other; the encoder that the first one wants is loaded once."""

    def __init__(self) -> None:
        self.encoder: Encoder | None = None

    def serve(self, worker: Connection) -> None:
        """Answers one worker until it is gone."""
        sending = threading.Lock()  # batches begin in another thread than they end in

        def send(answer: Answer) -> None:
            with sending:
                worker.send(answer)

        load: Load = worker.recv()
        try:
            self.encoder = self.encoder or _load(load)
        except Exception as error:
            send(Refused(f"{type(error).__name__}: {error}"))
            return
        send(Finished())
        while True:
            request: Encode = worker.recv()
            parts = encode_rows(
                self.encoder, request.rows, request.batch_size, request.batch_tokens, lambda rows: send(Begun(rows))
            )
            for part in parts:
                send(part)
            send(Finished())


def _load(load: Load) -> Encoder:
    from pyspark import cloudpickle

    encoder = cloudpickle.loads(load.spec).load(load.device)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # Spark runs a worker a core
    return encoder


def listen(path: str, idle_seconds: float) -> None:
    """Serves workers that connect to a Unix socket, until none has come for a while."""
    server = Server()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(idle_seconds)
        while True:
            try:
                accepted, _ = listener.accept()
            except TimeoutError:
                return
            accepted.setblocking(True)
            try:
                with Connection(accepted.detach()) as worker:
                    server.serve(worker)
            except (EOFError, ConnectionError):
                continue  # the worker is done, or was killed


def _end_with(owner: int) -> None:
    """Ends this process soon after the one that forks the workers, also while a batch computes."""
    while True:
        time.sleep(OWNER_SECONDS)
        try:
            os.kill(owner, 0)
        except ProcessLookupError:
            os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=[int(sys.argv[2])], daemon=True).start()
    try:
        listen(sys.argv[1], float(sys.argv[3]))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)  # at once: threads of native libraries may not keep it alive
