"""What suggests architectures, one after the other; nni's tuners among them, without its manager and portal."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal


class Tuner:
    """Base of all tuners: what one suggests is a function of its seed and of the scores that it was given.

    It holds no state that could be saved. One that is asked and told the same things again goes on as it would have.
    """

    def ask(self) -> dict[str, int] | None:
        """By label the index of the alternative to try next; None where all architectures were tried."""
        raise NotImplementedError(type(self).__name__)

    def tell(self, score: float | None) -> None:
        """What the architecture asked for last scores, the higher the better; None where it has no score."""
        raise NotImplementedError(type(self).__name__)


class NniTuner(Tuner):
    """A tuner of nni.

    Args:
        tuner: any that takes one result at a time, itself seeded where it takes a seed.
        kind: what it calls a choice of one among alternatives.
        alternatives: by label how many there are.
        seed: of the numbers that it draws from Python's global generator; that is left as it was.
        failed: the score that an architecture without one counts as; None reports a failure instead.
        redraws: how often it is asked again in place of what it has suggested before.
    """

    def __init__(
        self,
        tuner: Any,
        kind: Literal["choice", "layer_choice"],
        alternatives: Mapping[str, int],
        seed: int,
        failed: float | None = None,
        redraws: int = 0,
    ) -> None:
        self._tuner = tuner
        self._failed = failed
        self._redraws = redraws
        self._seen: set[tuple[int, ...]] = set()
        self._numbers = random.Random(seed).getstate()  # noqa: S311  (nothing secret)
        self._asked = 0
        with self._own_numbers():
            tuner.update_search_space(
                {label: {"_type": kind, "_value": list(range(count))} for label, count in alternatives.items()}
            )

    def ask(self) -> dict[str, int] | None:
        from nni import NoMoreTrialError

        for left in reversed(range(self._redraws + 1)):
            try:
                with self._own_numbers():
                    self._suggested = self._tuner.generate_parameters(self._asked)
            except NoMoreTrialError:
                return None
            alternatives = {label: _index(value) for label, value in self._suggested.items()}
            if left == 0 or tuple(alternatives.values()) not in self._seen:
                break
            self._end(None)
        self._seen.add(tuple(alternatives.values()))
        return alternatives

    def tell(self, score: float | None) -> None:
        self._end(self._failed if score is None else score)

    def _end(self, score: float | None) -> None:
        with self._own_numbers():
            if score is not None:
                self._tuner.receive_trial_result(self._asked, self._suggested, score)
            self._tuner.trial_end(self._asked, score is not None)
        self._asked += 1

    @contextmanager
    def _own_numbers(self) -> Iterator[None]:
        """Python's global generator, from which some tuners draw, at the place where this tuner left it."""
        others = random.getstate()
        random.setstate(self._numbers)
        try:
            yield
        finally:
            self._numbers = random.getstate()
            random.setstate(others)


def _index(value: Any) -> int:
    """Of a choice; some tuners wrap it."""
    return int(value["_value"] if isinstance(value, Mapping) else value)
