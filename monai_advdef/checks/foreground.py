"""Is there anything to find in every case?"""

from __future__ import annotations

from monai_advdef.checks.core import Check, Verdict
from monai_advdef.checks.subject import Subject


class Foreground(Check):
    """A case without foreground has a Dice of 1 as long as nothing is found, and of 0 from the first voxel on."""

    name = "Foreground"
    passes = "none"
    needs_gradient = False

    def __call__(self, subject: Subject) -> Verdict:
        """``suspect`` where a case has none, with its name; how many voxels the smallest structure has otherwise."""
        label = subject.aim
        voxels = (label > 0).flatten(1).sum(1).tolist()
        empty = [name for name, count in zip(subject.names, voxels) if not count]
        if empty:
            return self.suspect(
                f"{len(empty)} of {len(voxels)} cases looked at have no foreground (case {', '.join(empty)}): their Dice is 1 or 0 "
                "and nothing between, so the mean also counts how often something is found there; report them apart",
                empty=len(empty),
            )
        return self.ok(f"every case has foreground, at least {min(voxels):.0f} voxels", voxels=min(voxels))
