"""Admission: one atomic Redis script checks and reserves every limit of a request.

``Admission.admit`` takes a hold or raises ``LimitExceeded``; ``settle`` returns
what the hold did not use and appends the usage report in the same script.
"""

from tenants.admission.gate import Admission, ExpiredHold, Hold
from tenants.admission.seeding import ReadSpent, Spent, SpentQuery

__all__ = ["Admission", "ExpiredHold", "Hold", "ReadSpent", "Spent", "SpentQuery"]
