"""A request that is not answered, in the words of both protocols."""

from __future__ import annotations

import enum


class ErrorCode(enum.Enum):
    """HTTP status code, and name of the gRPC status code."""

    INVALID = (400, "INVALID_ARGUMENT")
    NO_SIGNATURE = (400, "FAILED_PRECONDITION")
    NOT_FOUND = (404, "NOT_FOUND")
    SLOW_BODY = (408, "DEADLINE_EXCEEDED")
    TOO_LARGE = (413, "INVALID_ARGUMENT")
    FAILED = (500, "INTERNAL")
    FULL = (503, "RESOURCE_EXHAUSTED")
    TOO_LATE = (504, "DEADLINE_EXCEEDED")

    @property
    def http(self) -> int:
        """HTTP status code."""
        return self.value[0]

    @property
    def grpc(self) -> str:
        """Name of the gRPC status code."""
        return self.value[1]


class RequestError(Exception):
    """The text goes to the client.

    Args:
        reason: Why.
        text: What was expected, and what came.
    """

    def __init__(self, reason: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def invalid(text: str) -> RequestError:
    """A request that cannot be meant as it stands."""
    return RequestError(ErrorCode.INVALID, text)


def excerpt(value: object, most: int = 80) -> str:
    """A value of the client's for an error text, cut short."""
    text = repr(value)
    return text if len(text) <= most else text[:most] + "…"
