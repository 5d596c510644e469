"""HTTP on the wire: uvicorn's protocol, with problems where it would answer in plain text."""

from __future__ import annotations

import secrets

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.errors import MEDIA_TYPE, Problem
from service.middleware import REQUEST_ID, problem_document


class ProblemProtocol(HttpToolsProtocol):
    """What is no HTTP at all gets a problem too, and an id."""

    def send_400_response(self, msg: str) -> None:
        """Answer 400 and close the connection: nothing that follows can be understood."""
        identifier = secrets.token_hex(8)
        problem = Problem("malformed-body", "a request in HTTP/1.1", "something that cannot be parsed as one")
        body = problem_document(problem, identifier)
        head = (
            f"HTTP/1.1 400 Bad Request\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            f"{REQUEST_ID}: {identifier}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
