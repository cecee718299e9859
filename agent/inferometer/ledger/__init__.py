"""The ledger: what is exposed is on the disk, once. The only part that writes."""

from inferometer.ledger.book import Ledger
from inferometer.ledger.database import hours
from inferometer.ledger.state import State

__all__ = ["Ledger", "State", "hours"]
