"""Errors: one stable code for each, a sentence for a person, and what became of the write."""

from __future__ import annotations

import pytest

from everwrite.core import errors
from everwrite.core.errors import EverwriteError, InvariantError, check, error_from_code

FAMILY = [
    found
    for found in vars(errors).values()
    if isinstance(found, type) and issubclass(found, EverwriteError)
]


def test_each_error_has_a_code_of_its_own_that_leads_back_to_it() -> None:
    assert len({error.code for error in FAMILY}) == len(FAMILY)
    for error in FAMILY:
        assert error_from_code(error.code) is error


def test_a_code_of_a_newer_version_is_the_base_error() -> None:
    assert error_from_code("from_the_future") is EverwriteError


def test_an_error_is_a_sentence_with_what_to_do() -> None:
    error = errors.QuorumNotMet("Only 1 of 2.", hint="Try again.", acked=1, required=2)

    assert str(error) == "Only 1 of 2. Try again."
    assert (error.acked, error.required, error.outcome) == (1, 2, "none")


@pytest.mark.parametrize("error", FAMILY)
def test_what_is_unavailable_now_may_be_retried_and_what_is_wrong_may_not(
    error: type[EverwriteError],
) -> None:
    if issubclass(error, errors.UnavailableError):
        assert error.retryable
    if issubclass(error, errors.RequestError | errors.DeniedError | errors.ProtocolError):
        assert not error.retryable


def test_check_raises_with_the_facts_and_also_when_python_drops_asserts() -> None:
    check(True, "all is well")
    with pytest.raises(InvariantError, match=r"a counter grows \[was=2, now=1\]"):
        check(False, "a counter grows", was=2, now=1)
