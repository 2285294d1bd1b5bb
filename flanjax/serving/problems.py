"""What a client is told when it gets no answer, in the shape that OpenAI's clients read."""

from __future__ import annotations

from typing import Any

from flanjax.errors import UserError

RETRY_AFTER_S = 1
_TYPES = {401: 'authentication_error', 404: 'not_found_error', 429: 'rate_limit_error'}


class ApiError(Exception):
  """Ends an HTTP request.

  Args:
    status: of HTTP.
    message: what was wrong, for a person.
    param: the field it was wrong with.
    code: a word for programs.
  """

  def __init__(
      self, status: int, message: str, *, param: str | None = None, code: str | None = None
  ):
    super().__init__(message)
    self.status, self.message, self.param, self.code = status, message, param, code

  @property
  def headers(self) -> dict[str, str]:
    if self.status in (429, 503):
      return {'Retry-After': str(RETRY_AFTER_S)}
    return {'WWW-Authenticate': 'Bearer'} if self.status == 401 else {}

  def body(self) -> dict[str, Any]:
    kind = 'server_error' if self.status >= 500 else 'invalid_request_error'
    return {'error': {'message': self.message, 'type': _TYPES.get(self.status, kind),
                      'param': self.param, 'code': self.code}}


def bad_field(param: str, message: str) -> ApiError:
  return ApiError(400, f'{param}: {message}', param=param, code='invalid_value')


def of_user_error(error: UserError, param: str) -> ApiError:
  """A mistake found behind the schema; where in the program it was found is nobody's business."""
  expected = error.expected and f'expected {error.expected}'
  return bad_field(param, '; '.join(
      str(x) for x in (error.what.rstrip('.'), error.got, expected, error.hint) if x))
