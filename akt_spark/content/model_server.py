"""The process that holds an encoder for one of Spark's Python workers: ``python -m akt_spark.content.model_server FD``.

All that looks at a row's content runs here, so that a row which ends its process (a fault in native code, no memory
left) ends this one and not the worker. `ModelProcess` is the worker's side, and starts it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection

from akt_spark.content.encoders import Encoder
from akt_spark.content.encoding import encode_rows
from akt_spark.content.model_messages import Answer, Begun, Encode, Finished, Load, Refused


def serve(connection: Connection) -> None:
    """Loads one encoder and answers requests until the worker is gone."""
    sending = threading.Lock()  # batches begin in another thread than they end in

    def send(answer: Answer) -> None:
        with sending:
            connection.send(answer)

    load: Load = connection.recv()
    started = time.monotonic()
    try:
        encoder = _load(load)
    except Exception as error:
        send(Refused(f"{type(error).__name__}: {error}"))
        return
    send(Finished(time.monotonic() - started))
    for request in _requests(connection):
        parts = encode_rows(
            encoder, request.rows, request.batch_size, request.batch_tokens, lambda batch: send(Begun(batch))
        )
        for part in parts:
            send(part)
        send(Finished())


def _load(load: Load) -> Encoder:
    import torch
    from pyspark import cloudpickle

    torch.set_num_threads(1)  # Spark runs a worker a core
    return cloudpickle.loads(load.spec).load(load.device)


def _requests(connection: Connection) -> Iterator[Encode]:
    while True:
        try:
            yield connection.recv()
        except EOFError:
            return


def _end_with_the_worker() -> None:
    """The worker holds the other end of stdin; it may be killed while a batch computes."""
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_worker, daemon=True).start()
    try:
        serve(Connection(int(sys.argv[1])))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)  # at once: threads of native libraries may not keep it alive
