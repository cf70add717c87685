"""Whether objectives fit a pair of networks that nobody has trained yet."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence

from nasdistill.distill.objectives import OBJECTIVES, Objective
from nasdistill.distill.taps import Taps
from nasdistill.distill.teacher import Teacher, objective_bindings
from nasdistill.models.base import NetworkSpec
from nasdistill.models.foresight import tentatively


def check_pair(objectives: Sequence[Objective], student: NetworkSpec, teachers: Sequence[NetworkSpec]) -> None:
    """Bind the objectives to networks of these specs, with weights that nobody trained.

    Raises:
        UserError: an objective does not apply to these networks.
    """
    plain = json.dumps([objective.spec() for objective in objectives if objective.weight], sort_keys=True)
    _check_pair(plain, student.model_dump_json(), tuple(teacher.model_dump_json() for teacher in teachers))


@functools.lru_cache(maxsize=1024)  # seeds and points of a sweep have the same pairs
def _check_pair(objectives: str, student: str, teachers: tuple[str, ...]) -> None:
    parsed = [OBJECTIVES.parse(objective) for objective in json.loads(objectives)]
    ours, *theirs = [NetworkSpec.model_validate_json(spec) for spec in (student, *teachers)]
    with tentatively():
        learning, teaching = ours.build(), [Teacher(spec.build()) for spec in theirs]
        for _objective, term, place in objective_bindings(parsed, learning, teaching, ours.shape):
            Taps(learning, term.student_points, "student")
            Taps(teaching[max(place - 1, 0)].network, term.teacher_points, "teacher")
