"""Errors: each of the server's has a twin here, and all survive the way between processes."""

import pickle

import pytest

import rewardserve_client as api
from rewardserve import errors as server
from rewardserve_client import RewardClientError
from rewardserve_client._errors import TWINS, from_code, from_status

ALL_ERRORS = [
    thing
    for name in api.__all__
    if isinstance(thing := getattr(api, name), type) and issubclass(thing, RewardClientError)
]


def test_each_code_of_the_server_has_a_twin() -> None:
    assert {code for _, code in server.HTTP_ERRORS.values()} == set(TWINS)


def test_twins_carry_the_servers_names_and_ancestry() -> None:
    for kind, (_, code) in server.HTTP_ERRORS.items():
        if kind is not server.RewardServeError:
            theirs = [base.__name__ for base in kind.__mro__ if base in server.HTTP_ERRORS]
            ours = [base.__name__ for base in TWINS[code].__mro__]
            assert TWINS[code].__name__ == kind.__name__
            assert set(theirs) - {"RewardServeError"} <= set(ours)


@pytest.mark.parametrize("kind", ALL_ERRORS)
def test_errors_survive_pickling_with_all_they_know(kind: type[RewardClientError]) -> None:
    error = kind("the queue is full", "inputs.3", "busy", "request-1", 2.5)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert vars(copy) == vars(error)
    assert str(copy) == "the queue is full"


def test_the_docstring_draws_the_whole_tree() -> None:
    tree = api._errors.__doc__
    assert tree is not None
    assert all(kind.__name__ in tree for kind in ALL_ERRORS)


def test_an_unknown_code_of_a_newer_server_is_a_server_failure() -> None:
    assert from_code("out_of_ink") is api.ServerFailed


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, api.InvalidRequest),
        (401, api.Unauthorized),
        (404, api.ConnectionFailed),
        (413, api.TooLarge),
        (429, api.Busy),
        (500, api.ServerFailed),
        (502, api.ServerFailed),
        (503, api.Busy),
        (504, api.DeadlineExceeded),
    ],
)
def test_a_status_alone_says_what_kind_of_failure_it_is(
    status: int, kind: type[RewardClientError]
) -> None:
    assert from_status(status) is kind
