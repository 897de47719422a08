"""What is told of a data set, for people."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from monai_advdef.data.layouts.core import Layout
from monai_advdef.data.listing import Listing


@dataclass
class Report:
    """What a folder holds, for people; it can be used where there are no ``problems``."""

    title: str
    cases: int
    cups: int
    sections: Counter[str]
    diagnoses: Counter[str]
    sizes: Counter[tuple[int, ...]]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    grades: Counter[str] = field(default_factory=Counter)
    recognised: str = ""
    patients: int = 0
    volumes: bool = False

    def __str__(self) -> str:
        counted = [(f"{self.cases} cases", self.sections), ("diagnosis", self.diagnoses), ("grade", self.grades)]
        lines = [self.title] + [f"  {self.recognised}"] * bool(self.recognised)
        lines += [f"  {name}: {', '.join(f'{n} {what}' for what, n in counts.items())}" for name, counts in counted if counts]
        lines += [f"  of {self.patients} patients"] * bool(self.patients)
        lines += [f"  {self.cups} with cup mask"] * bool(self.cups)
        if self.sizes:
            (often, number), least, most = self.sizes.most_common(1)[0], min(self.sizes), max(self.sizes)
            what = "pixels" if len(often) == 2 else "voxels"
            lines.append(f"  {what}: {_by(least)} to {_by(most)}, {number} of {_by(often)}")
        lines += [f"  note: {note}" for note in self.notes] + [f"  problem: {problem}" for problem in self.problems]
        return "\n".join(lines)


def _by(lengths: tuple[int, ...]) -> str:
    return "x".join(map(str, lengths))


def listing_report(layout: Layout, listing: Listing, sizes: Counter[tuple[int, int]], stretched: int) -> Report:
    """What a distributed data set holds, once its files were decoded: sizes counted, and how many cases have stretched masks."""
    entries = listing.entries
    sections = Counter(entry.section or "without official section" for entry in entries)
    notes = [*listing.notes, *layout.remarks(entries, stretched)]
    return Report(
        title=f"{layout.title} ({layout.name})",
        cases=len(entries),
        cups=sum(entry.cup is not None for entry in entries),
        sections=sections,
        diagnoses=Counter(entry.diagnosis for entry in entries if entry.diagnosis),
        sizes=Counter(sizes.elements()),
        problems=listing.problems,
        notes=notes,
    )
