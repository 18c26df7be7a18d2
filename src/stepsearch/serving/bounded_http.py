"""uvicorn's HTTP by httptools, with an end to how long the head of a request may be; its HTTP by h11 has one."""

import asyncio

MAX_HEAD_BYTES = 64 * 1024

http_protocol: type[asyncio.Protocol] | str
"""What uvicorn is to speak HTTP with: httptools where it is installed, else h11."""

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:
    http_protocol = "h11"
else:

    class BoundedHttpTools(HttpToolsProtocol):
        """Closes a connection whose request has too long a head."""

        head_bytes = 0
        in_head = False

        def on_message_begin(self) -> None:
            """Begin to count."""
            self.head_bytes, self.in_head = 0, True
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            """Count no more."""
            self.in_head = False
            super().on_headers_complete()

        def data_received(self, data: bytes) -> None:
            """Take what the client sent."""
            super().data_received(data)
            if self.in_head and not self.transport.is_closing():
                self.head_bytes += len(data)
                if self.head_bytes > MAX_HEAD_BYTES:
                    self.send_400_response("The head of the request is too long.")

    http_protocol = BoundedHttpTools
