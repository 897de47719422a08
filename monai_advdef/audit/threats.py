"""The threat model of a reading: recovered from its chain and the first cases, unless the user says it."""

from __future__ import annotations

from typing import Any

from monai.bundle import ConfigParser

from monai_advdef.audit.building import built
from monai_advdef.audit.dataset import AuditDataset
from monai_advdef.audit.isolation import SOCKET
from monai_advdef.audit.reading import AuditOptions, Reading
from monai_advdef.audit.tail.dividing import split
from monai_advdef.audit.tail.recovery import Recovered, recover

LOOKED_AT = 4  # cases whose tail and range are looked at beforehand; the tail of the rest is held against the chain as they come


def recovered(config: dict[str, Any], reading: Reading, options: AuditOptions, *, every: bool = False) -> Recovered:
    """Unit, budget and range of the images of a model, and how its preprocessing is divided.

    Args:
        config: with the socket; its preprocessing and cases are built.
        every: look at all cases.

    Raises:
        DataError: see :func:`monai_advdef.audit.tail.recovery.recover`.
    """
    parser = ConfigParser(config=config)
    socket = config[SOCKET]
    chain = built(parser, f"{SOCKET}::preprocessing")
    if hasattr(chain, "recovered"):  # it is divided already, and knows its units
        return chain.recovered(unit=options.unit, eps=options.eps, value_range=options.value_range)
    cases = built(parser, f"{SOCKET}::cases")
    parts = split(chain, socket["image_key"], reads=socket["reads"])
    shown = cases if every else cases[:LOOKED_AT]
    dataset = AuditDataset(
        shown,
        chain,
        parts.head,
        image_key=socket["image_key"],
        label_key=socket["label_key"],
        labelled=socket["labelled"],
    )
    return recover(
        parts,
        dataset,  # type: ignore[arg-type]  # MONAI's data sets say less of themselves than they are
        complete=len(shown) == len(cases),
        stated=reading.stated,
        unit=options.unit,
        eps=options.sizes[-1] if options.sizes else None,
        value_range=options.value_range,
    )
