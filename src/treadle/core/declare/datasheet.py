"""What only people know of a data set: why it was made, how it was collected, what it is for; the rest of its datasheet is on record.

The parts are those of Gebru et al., "Datasheets for Datasets" (Communications of the ACM 64(12), 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

from treadle.core.declare.place import here
from treadle.core.errors import ProjectError


@dataclass(frozen=True)
class Datasheet:
    """The declared parts of a data set's datasheet. What is empty is said to be empty.

    Args:
        motivation: why the data set was made, by whom, who paid.
        composition: what a row stands for, what is missing, what is confidential or may offend.
        collection: how, when and by whom the rows were gathered; whether persons were told and agreed.
        preprocessing: cleaning and labelling before the rows reached the source.
        uses: what it is for, and what it was used for.
        limits: what it must not be used for, and what it is known to be bad at.
        distribution: who may have it, and how.
        maintenance: who mends errors, how often it is brought up to date.
        licence: an SPDX name or an address.
        citation: how to cite it, as text or BibTeX.
        url: its page.
    """

    motivation: str = ""
    composition: str = ""
    collection: str = ""
    preprocessing: str = ""
    uses: str = ""
    limits: str = ""
    distribution: str = ""
    maintenance: str = ""
    licence: str = ""
    citation: str = ""
    url: str = ""


def datasheet(
    *, motivation: str = "", composition: str = "", collection: str = "", preprocessing: str = "", uses: str = "", limits: str = "",
    distribution: str = "", maintenance: str = "", licence: str = "", citation: str = "", url: str = "",
) -> Datasheet:  # fmt: skip
    """What only people know of a data set, for its datasheet: `project.dataset(..., datasheet=tr.datasheet(...))`. See `Datasheet` for the parts."""
    given = dict(locals())
    for name, value in given.items():
        if not isinstance(value, str):
            raise ProjectError(f"datasheet({name}=...) is {value!r}, which is no text.", where=here(), hint="Write a sentence in quotes.")
    return Datasheet(**{name: value.strip() for name, value in given.items()})
