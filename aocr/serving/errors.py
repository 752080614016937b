"""Errors that a client receives, with their HTTP and gRPC status codes."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import numpy as np

INTERNAL_ERROR = "internal error; see the log of the server"  # what clients see of unexpected ones


class ErrorCode(enum.Enum):
    """Kind of a request error: HTTP status code and name of the gRPC status code."""

    INVALID_ARGUMENT = (400, "INVALID_ARGUMENT")
    UNKNOWN_SIGNATURE = (400, "FAILED_PRECONDITION")
    NOT_FOUND = (404, "NOT_FOUND")
    BODY_TIMEOUT = (408, "DEADLINE_EXCEEDED")
    TOO_LARGE = (413, "INVALID_ARGUMENT")
    INTERNAL = (500, "INTERNAL")
    OVERLOADED = (503, "RESOURCE_EXHAUSTED")
    TIMEOUT = (504, "DEADLINE_EXCEEDED")

    @property
    def http(self) -> int:
        """HTTP status code."""
        return self.value[0]

    @property
    def grpc(self) -> str:
        """Name of the gRPC status code."""
        return self.value[1]


class RequestError(Exception):
    """A request that gets an error response.

    Args:
        code: Kind of the error.
        message: Text for the client: what was expected and what was received.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code

    def at(self, name: str, shape: Sequence[int], index: int) -> RequestError:
        """Returns the error with the position of the element of an input that caused it.

        Args:
            name: Name of the input.
            shape: Shape of the input; an error of a scalar stays as it is.
            index: Index of the element in the flattened input.
        """
        if not shape:
            return self
        return RequestError(self.code, f"{element(name, shape, index)}: {self}")


def invalid(message: str) -> RequestError:
    """Returns the error for a malformed request or for inputs that do not fit the signature."""
    return RequestError(ErrorCode.INVALID_ARGUMENT, message)


def element(name: str, shape: Sequence[int], index: int) -> str:
    """Returns an element of an input for an error message, as in "input 'input'[0][2]"."""
    return f"input {name!r}" + "".join(f"[{n}]" for n in np.unravel_index(index, shape))
