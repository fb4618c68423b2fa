"""The tables that persistence brings, for its own tests."""

from sqlalchemy import MetaData

from openqrm.persistence.inbox import inbox_table
from openqrm.persistence.outbox import events_table, outbox_table

metadata = MetaData()
outbox, inbox, events = outbox_table(metadata), inbox_table(metadata), events_table(metadata)
