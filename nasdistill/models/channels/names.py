"""Names of channels, of which two can turn out to be one."""

from __future__ import annotations

import torch

NONE = 0
"""The name of what belongs to no channel."""


class Names:
    """Numbers from 1 on, in sets that are joined as it is found which must change together (union-find)."""

    def __init__(self) -> None:
        self._parents = [NONE]
        self._reasons: dict[int, str] = {}
        self._mixed: set[int] = set()

    def new(self, count: int) -> torch.Tensor:
        """So many new names, int64 [count]."""
        first = len(self._parents)
        self._parents += range(first, first + count)
        return torch.arange(first, first + count)

    def tie(self, ours: torch.Tensor, theirs: torch.Tensor | None, why: str) -> torch.Tensor:
        """Make names in the same place one; a name that meets none there is fixed.

        Args:
            ours, theirs: of the same shape; None are fixed all.
            why: what meets, for the reason.

        Returns:
            the names there now.
        """
        if theirs is None:
            self.fix(ours, why)
            return ours
        many = len(self._parents)
        for pair in torch.unique(ours * many + theirs).tolist():
            one, other = divmod(pair, many)
            if one > NONE and other > NONE:
                self._join(one, other)
            elif one != other:
                self.fix(torch.tensor([one, other]), f"{why} together with values that are no channel")
        return torch.where(ours > NONE, ours, theirs)

    def fix(self, names: torch.Tensor, reason: str) -> None:
        """The channels of these names stay as many as they are; the first reason is kept."""
        for name in torch.unique(names).tolist():
            if name > NONE:
                self._reasons.setdefault(self._root(name), reason)

    def mix(self, names: torch.Tensor) -> None:
        """A norm takes these together."""
        self._mixed |= {self._root(name) for name in torch.unique(names).tolist() if name > NONE}

    def roots(self, names: torch.Tensor) -> list[int]:
        """The one name of each set."""
        return [self._root(name) for name in names.tolist()]

    def reason(self, root: int) -> str | None:
        """Why a channel is fixed, if it is."""
        return self._reasons.get(root)

    def is_mixed(self, root: int) -> bool:
        return root in self._mixed

    def _root(self, name: int) -> int:
        while self._parents[name] != name:
            self._parents[name] = self._parents[self._parents[name]]
            name = self._parents[name]
        return name

    def _join(self, one: int, other: int) -> None:
        one, other = self._root(one), self._root(other)
        if one == other:
            return
        kept, gone = min(one, other), max(one, other)
        self._parents[gone] = kept
        if gone in self._reasons:
            self._reasons.setdefault(kept, self._reasons.pop(gone))
        if gone in self._mixed:
            self._mixed.add(kept)
