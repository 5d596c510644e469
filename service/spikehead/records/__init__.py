"""Records of past requests: a database, and a recorder that writes to it in the background."""

from spikehead.records.query import CursorError, Filter, Order, RecordPage
from spikehead.records.record import Ids, Record, first_id, time_of
from spikehead.records.store import DatabaseURLError, RecordError, Store, StoreError
from spikehead.records.writer import Promise, Recorder, RecorderState

__all__ = [
    "CursorError",
    "DatabaseURLError",
    "Filter",
    "Ids",
    "Order",
    "Promise",
    "Record",
    "RecordError",
    "RecordPage",
    "Recorder",
    "RecorderState",
    "Store",
    "StoreError",
    "first_id",
    "time_of",
]
