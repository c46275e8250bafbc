"""Reading, checking and splitting reference data."""

from jaxmlip.data.audit import audit, clean, findings_rows
from jaxmlip.data.duplicates import leakage, trajectories
from jaxmlip.data.findings import AuditSettings, Finding
from jaxmlip.data.keys import Keys
from jaxmlip.data.labels import DataWarning, Labels, attach, labels
from jaxmlip.data.read import iread, read, write
from jaxmlip.data.split import Split, group_split, groups, random_split, split

__all__ = [
    "AuditSettings",
    "DataWarning",
    "Finding",
    "Keys",
    "Labels",
    "Split",
    "attach",
    "audit",
    "clean",
    "findings_rows",
    "group_split",
    "groups",
    "iread",
    "labels",
    "leakage",
    "random_split",
    "read",
    "split",
    "trajectories",
    "write",
]
