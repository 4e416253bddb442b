"""lark's LALR parser fed word by word, its stacks within reach so that parsing can go on after an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lark import UnexpectedToken

from tpcgen.syntax.table import table
from tpcgen.syntax.words import Word


class Lalr:
    """One parse, from the grammar's rule `start`."""

    def __init__(self, start: str) -> None:
        self._parser: Any = table().parse_interactive(start=start)
        self._state: Any = self._parser.parser_state
        self.result: Any = None
        """What the whole text means, once its END word is taken."""

    def take(self, word: Word) -> bool:
        """Whether the word can come next; if so, it is taken."""
        try:
            self.result = self._parser.feed_token(word)
        except UnexpectedToken:
            return False
        return True

    @property
    def accepted(self) -> frozenset[str]:
        """The kinds of words that can come next. Slow: it tries them all."""
        return frozenset(self._parser.accepts())

    @property
    def stack(self) -> Sequence[Any]:
        """The words and nodes that are not yet part of a larger node."""
        return self._state.value_stack

    def depth(self, rule: str) -> int:
        """How much of the stack lies below the innermost place where `rule` may begin, plus 1; 0 if it may nowhere."""
        states, stack = self._state.parse_conf.states, self._state.state_stack
        return next((depth for depth in range(len(stack), 0, -1) if rule in states[stack[depth - 1]]), 0)

    def cut(self, depth: int) -> list[Any]:
        """Drop and return what lies above a `depth`."""
        dropped: list[Any] = self._state.value_stack[depth - 1 :]
        del self._state.state_stack[depth:], self._state.value_stack[depth - 1 :]
        return dropped
