"""The slow trials work in the same kind of folder as the tests of the rules."""

from tests.rules.conftest import workplace

__all__ = ["workplace"]
