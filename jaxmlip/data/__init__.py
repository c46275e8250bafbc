"""Reading, checking and splitting reference data."""

from jaxmlip.data.audit import audit, clean, findings_rows
from jaxmlip.data.duplicates import leakage, trajectories
from jaxmlip.data.findings import AuditSettings, Finding
from jaxmlip.data.keys import Keys
from jaxmlip.data.labels import DataWarning, Labels, attach, labels
from jaxmlip.data.packed import CorruptRecordError, PackedData
from jaxmlip.data.packing import pack
from jaxmlip.data.read import iread, read, write
from jaxmlip.data.split import Split, group_split, groups, random_split, split

__all__ = [
    "AuditSettings",
    "CorruptRecordError",
    "DataWarning",
    "Finding",
    "Keys",
    "Labels",
    "PackedData",
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
    "pack",
    "random_split",
    "read",
    "split",
    "trajectories",
    "write",
]
