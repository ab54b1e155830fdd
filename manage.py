#!/usr/bin/env python
"""Django's command line for Sluice."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line

    from tenants.scope import Login, Scope, set_process_scope

    # A command acts for the installation, not for a tenant.
    set_process_scope(Scope(login=Login.OWNER))
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
