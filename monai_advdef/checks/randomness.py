"""Does the victim answer the same when it is asked twice?"""

from __future__ import annotations

from monai_advdef.attacks.looks import look_twice
from monai_advdef.checks.core import Check, Verdict
from monai_advdef.checks.subject import Subject, hushed
from monai_advdef.logits import name_of


class Randomness(Check):
    """A network that draws in evaluation mode, or a defence that draws: is it attacked in expectation?

    Source: Croce et al., "Evaluating the Adversarial Robustness of Adaptive Test-time Defenses", ICML 2022, and AutoAttack's own
    warnings.
    """

    name = "Randomness"
    passes = "3 forward"
    each = (3, 0)
    needs_gradient = False

    def __call__(self, subject: Subject) -> Verdict:
        """``suspect`` for a network that draws, or one draw of a stochastic defence; ``broken`` where a case's answer depends on
        the batch, or a defence draws without saying so."""
        victim = subject.victim
        victim.random = None  # it is looked at anew
        try:
            with victim.frozen(), hushed():
                look_twice(victim, subject.image)
        except ValueError as error:
            return self.broken(str(error))
        if victim.random:
            words = f"{name_of(victim.network)} draws at random in evaluation mode (dropout or noise left on?)"
            return self.suspect(
                f"{words}; it is attacked in expectation over {victim.draws} draws, one score of many", draws=victim.draws
            )
        if victim.drawing_defense:
            drawn = f"{type(victim.defense).__name__} draws at random"
            if victim.draws < 2:
                return self.suspect(f"{drawn}, and the attack sees one draw of it at a time; set draws to 8 or more", draws=1)
            return self.ok(f"{drawn} and is attacked in expectation over {victim.draws} draws", draws=victim.draws)
        return self.ok("two looks at the same images give the same answer")
