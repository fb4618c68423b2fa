"""Which hosts have which words (tags, bridges): a set of rows per word, and a column per word that was asked for."""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
"""One truth value per row."""

MAX_COLUMNS = 256
"""Columns kept ready; at 100,000 hosts they take 25 MB. Others are made again from the rows, in well under 10 ms."""


class Membership:
    """Words of rows, asked word by word."""

    def __init__(self) -> None:
        self._words: dict[int, frozenset[str]] = {}
        self._rows: defaultdict[str, set[int]] = defaultdict(set)
        self._columns: OrderedDict[str, Mask] = OrderedDict()

    def put(self, row: int, words: Iterable[str]) -> bool:
        """Replace a row's words; returns whether that changed anything."""
        before, after = self._words.get(row, frozenset()), frozenset(words)
        if before == after:
            return False
        for word in before - after:
            self._rows[word].discard(row)
            if not self._rows[word]:
                del self._rows[word]
            self._mark(word, row, value=False)
        for word in after - before:
            self._rows[word].add(row)
            self._mark(word, row, value=True)
        if after:
            self._words[row] = after
        else:
            self._words.pop(row, None)
        return True

    def words(self, row: int) -> frozenset[str]:
        """The words of one row."""
        return self._words.get(row, frozenset())

    def column(self, word: str, length: int) -> Mask:
        """Which of the first `length` rows have the word. The caller must not write to it."""
        column = self._columns.get(word)
        if column is None or len(column) != length:
            rows = self._rows.get(word, set())
            column = np.zeros(length, dtype=np.bool_)
            column[np.fromiter(rows, dtype=np.intp, count=len(rows))] = True
            self._columns[word] = column
            if len(self._columns) > MAX_COLUMNS:
                self._columns.popitem(last=False)
        self._columns.move_to_end(word)
        return column

    def _mark(self, word: str, row: int, *, value: bool) -> None:
        column = self._columns.get(word)
        if column is None:
            return
        if row < len(column):
            column[row] = value
        else:
            del self._columns[word]
