"""Foreign wire protocols: each file translates one owner's requests to the service's and back.

A file offers `routes(service) -> APIRouter`; listed here it is served, behind the same key, limits
and error handlers as the native routes.
"""

from collections.abc import Callable

from fastapi import APIRouter

from rewardserve.serving.service import Service

DIALECTS: tuple[Callable[[Service], APIRouter], ...] = ()
