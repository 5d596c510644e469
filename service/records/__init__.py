"""What the service remembers of past requests: a database, and a recorder that writes to it in the background."""

from service.records.query import CursorError, Filter, Order, Page
from service.records.record import Ids, Record, first_id, time_of
from service.records.store import DatabaseURLError, RecordError, Store, StoreError
from service.records.writer import Promise, Recorder, RecorderState

__all__ = [
    "CursorError",
    "DatabaseURLError",
    "Filter",
    "Ids",
    "Order",
    "Page",
    "Promise",
    "Record",
    "RecordError",
    "Recorder",
    "RecorderState",
    "Store",
    "StoreError",
    "first_id",
    "time_of",
]
