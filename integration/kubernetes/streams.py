"""`kubectl exec`, `attach` and `port-forward` after the first call: what is said on the address that the CRI answers with.

Kubernetes' streams over a WebSocket (RFC 6455): the first byte of a message is the number of a channel. For processes
0, 1 and 2 are the standard streams, 3 is the outcome as JSON, 4 the size of the terminal. For ports, each has two:
its bytes, and errors.
"""

import base64
import json
import os
import socket
import struct
import urllib.parse

from harness.checks import SECONDS, Failed

PROTOCOL = "v4.channel.k8s.io"


class Streams:
    """A connection to an address of the CRI's."""

    def __init__(self, url, query=""):
        address = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((address.hostname, address.port), SECONDS)
        self.rest = b""
        key = base64.b64encode(os.urandom(16)).decode()
        path = address.path + (f"?{query}" if query else "")
        self.socket.sendall("\r\n".join([
            f"GET {path} HTTP/1.1", f"Host: {address.netloc}", "Connection: Upgrade", "Upgrade: websocket",
            "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", f"Sec-WebSocket-Protocol: {PROTOCOL}",
            f"Origin: http://{address.netloc}", "", ""]).encode())
        while b"\r\n\r\n" not in self.rest:
            part = self.socket.recv(4096)
            if not part:
                raise Failed(f"no WebSocket: {self.rest!r}")
            self.rest += part
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            raise Failed(f"no WebSocket: {head!r}")

    def send(self, channel, data):
        """Sends bytes on a channel; a client masks what it sends."""
        payload, mask = bytes([channel]) + data, os.urandom(4)
        length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack(">H", len(payload))
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
        self.socket.sendall(b"\x82" + length + mask + masked)

    def receive(self):
        """The next message: a channel and its bytes; None at the end."""
        head = self.take(2)
        if head is None:
            return None
        length = head[1] & 0x7f
        if length == 126:
            length = struct.unpack(">H", self.take(2))[0]
        elif length == 127:
            length = struct.unpack(">Q", self.take(8))[0]
        payload = self.take(length)
        kind = head[0] & 0x0f
        if kind == 8 or payload is None:
            return None
        if kind in (1, 2) and payload:
            return payload[0], payload[1:]
        return self.receive()

    def take(self, count):
        """So many bytes, None if there are fewer."""
        while len(self.rest) < count:
            part = self.socket.recv(65536)
            if not part:
                return None
            self.rest += part
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def until(self, channel, text):
        """What arrives on a channel, until a text is in it."""
        found = b""
        while text not in found:
            message = self.receive()
            if message is None:
                raise Failed(f"the end, after {found!r} and before {text!r}")
            if message[0] == channel:
                found += message[1]
        return found

    def process(self):
        """Everything until the end of a process: its output, its errors, and its exit status."""
        found = {1: b"", 2: b"", 3: b""}
        while (message := self.receive()) is not None:
            found[message[0]] = found.get(message[0], b"") + message[1]
        self.close()
        outcome = json.loads(found[3] or b"{}")
        status = 0
        if outcome.get("status") != "Success":
            causes = outcome.get("details", {}).get("causes", [])
            codes = [int(cause["message"]) for cause in causes if cause.get("reason") == "ExitCode"]
            status = codes[0] if codes else str(outcome)
        return found[1].decode(), found[2].decode(), status

    def close(self):
        """Hangs up."""
        self.socket.close()
