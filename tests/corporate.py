"""A company's proxy on the loopback."""

import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Corporate:
    """A company's proxy, the one way to anywhere: it wants a password and resolves every name."""

    port: int
    leads: int
    password: str
    asked: list[str] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self.answer, args=(client,), daemon=True).start()

    def answer(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536)
            self.asked.append(head.split(b" ")[1].decode())
            if b"Basic " + b64encode(self.password.encode()) + b"\r\n" not in head:
                client.sendall(b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n")
                return
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            with socket.create_connection(("127.0.0.1", self.leads)) as server:
                thread = threading.Thread(target=pump, args=(server, client), daemon=True)
                thread.start()
                pump(client, server)
                thread.join()


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def corporate(leads: int, password: str) -> Iterator[Corporate]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        made = Corporate(listener.getsockname()[1], leads, password)
        threading.Thread(target=made.serve, args=(listener,), daemon=True).start()
        yield made
        # Who waits in accept() isn't woken by close().
        listener.shutdown(socket.SHUT_RDWR)
