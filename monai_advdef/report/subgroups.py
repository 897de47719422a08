"""Results by groups of patients: by sex, scanner or site, out of a list that says which case belongs where."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from monai_advdef import stats
from monai_advdef.errors import DataError, reading
from monai_advdef.report import words
from monai_advdef.report.scope import Scope
from monai_advdef.report.sections import Section

FEW, MOST_GROUPS = 20, 30
"""Of fewer cases a mean says little; more groups are no groups but a number that each case has."""
NOT_STATED = "not stated"


def read_groups(path: str | Path) -> tuple[str, pd.DataFrame]:
    """What a list goes by, ``case`` or ``patient``, and its groupings as columns of text, by name of the case or patient.

    Args:
        path: a CSV file, with commas, semicolons or tabs; its head names a column ``case`` or ``patient``, and one a grouping.

    Raises:
        DataError: the file cannot be read, lacks such a column, or puts one case into two groups.
    """
    with reading(path, "cannot be read as a list of groups", "give a CSV file with the columns case (or patient) and, say, sex"):
        text = Path(path).read_text(encoding="utf-8-sig")
        head = text.partition("\n")[0]
        between = max(",;\t", key=head.count)
        table = pd.read_csv(path, dtype=str, keep_default_na=False, sep=between, encoding="utf-8-sig", index_col=False)
    table.columns = [str(name).strip() for name in table.columns]
    known = {name.lower(): name for name in reversed(list(table.columns))}
    by = next((name for name in ("case", "patient") if name in known), "")
    if not by:
        there = ", ".join(table.columns)
        raise DataError(f"{path} has the columns {there}, none of them 'case' or 'patient'; call so the one that tells which it is")
    groupings = [name for name in table.columns if name not in (known.get("case"), known.get("patient"))]
    if not groupings:
        raise DataError(f"{path} has no column beside {known[by]}; add one for each grouping, such as sex")
    table = table[[known[by], *groupings]].apply(lambda column: column.str.strip()).drop_duplicates()
    if (twice := int(table[known[by]].duplicated().sum())) > 0:
        raise DataError(f"{path} puts {words.count(twice, by)} into two groups of one column; give each {by} one row")
    return by, table.set_index(known[by]).replace("", NOT_STATED)


def subgroups(scope: Scope, path: str | Path) -> list[Section]:
    """A table for each grouping of the list at ``path``: clean and under attack, by defence, with intervals. No case is named.

    Raises:
        DataError: as :func:`read_groups`; or the list holds none of the cases evaluated, or more groups than can be compared.
    """
    by, groupings = read_groups(path)
    if not scope.rows[by].isin(groupings.index).any():
        number = words.count(scope.rows[by].nunique(), by)
        raise DataError(f"{path} holds none of the {number} evaluated; write its column {by} as in the records (read_records tells)")
    found = []
    for name in groupings:
        of = scope.rows[by].map(groupings[name]).fillna(NOT_STATED)
        if of.nunique() > MOST_GROUPS:
            raise DataError(
                f"column {name} of {path} makes {of.nunique()} groups, at most {MOST_GROUPS}; give ranges in place of numbers"
            )
        found.append(_section(scope, str(name), of))
    return found


def _section(scope: Scope, name: str, of: pd.Series) -> Section:
    """The table of one grouping, the group of every row of the scope given."""
    group = pd.Series(of.to_numpy(), index=scope.rows["case"]).groupby(level=0).first()
    names = sorted(set(group), key=lambda g: (g == NOT_STATED, g))
    attacked = stats.headline_cases(scope.headline_rows) if len(scope.headline_rows) else scope.headline_rows
    clean, head = (_means(rows, group) for rows in (stats.per_case(scope.clean, ["defense"]), attacked))
    rows, few = [], []
    for number, g in enumerate(names):
        cases = group.index[group == g]
        patients = scope.rows.loc[scope.rows["case"].isin(cases), "patient"].nunique()
        scores = [side.get((g, defense), "–") for defense in scope.defenses for side in (clean, head)]
        rows.append([g, str(len(cases)), str(patients), *scores])
        few += [number] if len(cases) < FEW else []
    heads = [name, "cases", "patients"]
    for defense in scope.defenses:
        about = "" if len(scope.defenses) == 1 else f", {words.defence(defense)}"
        heads += [f"clean{about}", f"under attack{about}"]
    note = f"Mean {scope.metric_name} and 95 % interval (bootstrap over patients) of each group; under attack as in the headline."
    if few:
        note += f" In grey: fewer than {FEW} cases, too few to be compared ({words.listing([names[k] for k in few])})."
    return Section(f"{scope.heading} by {name}", heads, rows, note, faint=frozenset(few))


def _means(cases: pd.DataFrame, group: pd.Series) -> dict[tuple[str, str], str]:
    """By group and defence, of rows of one value per case and defence: the mean with its interval."""
    if not len(cases):
        return {}
    table = stats.summarize(cases.assign(group=cases["case"].map(group)), ["group", "defense"])
    return {(row["group"], row["defense"]): words.mean(row) for _, row in table.iterrows()}
