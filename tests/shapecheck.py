"""The type checker that the tests run the shape annotations with: beartype, taking a whole number where a float is asked for."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

checker = beartype(conf=BeartypeConf(is_pep484_tower=True))
