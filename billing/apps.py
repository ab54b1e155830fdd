from typing import ClassVar

from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing"
    # Usage and ledger are written by the control worker, prices by staff.
    web_grants: ClassVar = {
        "price": "SELECT",
        "usageevent": "SELECT",
        "ledgertransaction": "SELECT",
        "ledgerentry": "SELECT",
        "rejectedreport": "",
    }
