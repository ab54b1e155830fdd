"""Every statement acts in the current ``tenants.scope``: as its role, naming its tenant.

Before a cursor is handed out and before each of its statements, the connection's role
and the settings that the row policies read (``sluice.organization`` and its like) are
made to match the scope, in one statement and only when they differ. A connection logs
in as the scope's own role where ``LOGINS`` has it, so that a web request cannot become
staff by any SQL. A transaction keeps the login that it began with; in another's scope it
asks for ``SET ROLE``, which PostgreSQL lets the tables' owner do (commands, tests), and
staff who become the web. The web role can become nobody.

The settings live in the session, so between here and PostgreSQL there may be no pooler
that gives one session's statements to several servers (PgBouncer's transaction mode).
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import ProgrammingError
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base
from django.db.transaction import Atomic
from psycopg.pq import TransactionStatus

from tenants import scope
from tenants.scope import Login, Scope

_APPLY = (
    "SELECT set_config('role', %s, false), set_config('sluice.organization', %s, false),"
    " set_config('sluice.user', %s, false), set_config('sluice.key_lookup', %s, false),"
    " set_config('sluice.invitation', %s, false), set_config('sluice.provider', %s, false)"
)


class DatabaseWrapper(base.DatabaseWrapper):  # type: ignore[misc]
    _pools: ClassVar[dict[Login, dict[str, Any]]] = {login: {} for login in Login}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._login: Login | None = None  # whose connection is open; None: none is
        self._applied: Scope | None = None  # what the server was told; None: unknown
        self._transaction: Atomic | None = None  # the block that the next line is about
        self._transaction_login = Login.OWNER

    # --- A connection of the right login ------------------------------------------------

    def _wanted_login(self) -> Login:
        if self.alias == NO_DB_ALIAS:  # makes and drops test databases
            return Login.OWNER
        wanted = scope.current().login
        return wanted if wanted in self.settings_dict.get("LOGINS", {}) else Login.OWNER

    def _acting_login(self) -> Login:
        """The open connection's, else the one that would be opened now."""
        return self._wanted_login() if self._login is None else self._login

    def get_connection_params(self) -> dict[str, Any]:
        login = self.settings_dict.get("LOGINS", {}).get(self._acting_login(), {})
        return {**super().get_connection_params(), **login}

    @property
    def _connection_pools(self) -> dict[str, Any]:
        """Django's pools by alias, apart for each login: none gets another's connection."""
        return self._pools[self._acting_login()]

    def close_pool(self) -> None:
        for pools in self._pools.values():
            pool = pools.pop(self.alias, None)
            if pool is not None:
                pool.close()

    def connect(self) -> None:
        self._login, self._applied = self._wanted_login(), None
        try:
            super().connect()
        except BaseException:
            self._login = None
            raise

    def _close(self) -> Any:
        try:
            return super()._close()  # type: ignore[misc]
        finally:
            self._login = self._applied = None

    # --- A statement in the right scope ----------------------------------------------------

    def _cursor(self, name: str | None = None) -> Any:
        self._keep_login()
        return super()._cursor(name)  # type: ignore[misc]

    def set_autocommit(self, autocommit: bool, *args: Any, **kwargs: Any) -> None:
        if not autocommit:  # a transaction begins, and will keep its login
            self._keep_login()
            self._transaction = None
        super().set_autocommit(autocommit, *args, **kwargs)

    def _savepoint(self, sid: str) -> None:
        if self._outermost_block() is None:  # what a test's own transaction has for a beginning
            self._transaction = None
        super()._savepoint(sid)  # type: ignore[misc]

    def _keep_login(self) -> None:
        if (
            self.connection is not None
            and self._login is not self._wanted_login()
            and not self.in_atomic_block
        ):
            self.close()

    def create_cursor(self, name: str | None = None) -> Any:
        self._keep_scope()
        return super().create_cursor(name)

    def validate_no_broken_transaction(self) -> None:
        """Django asks this before each statement: a cursor may outlive its scope."""
        super().validate_no_broken_transaction()
        if self.connection is not None:
            self._keep_scope()

    def _keep_scope(self) -> None:
        if self.alias == NO_DB_ALIAS:
            return
        wanted = scope.current()
        self._check_transaction(wanted)
        if self._applied is wanted or self._applied == wanted:
            return
        # After an error PostgreSQL takes a rollback only, which needs no scope.
        if self._transaction_status() is not TransactionStatus.INERROR:
            self._apply(wanted)

    def _check_transaction(self, wanted: Scope) -> None:
        """Refuse in tests, where the owner stands in for all, what separate logins refuse."""
        block = self._outermost_block()
        if block is not self._transaction:
            self._transaction, self._transaction_login = block, wanted.login
        elif (
            block is not None
            and self._transaction_login is Login.WEB
            and wanted.login is not Login.WEB
        ):
            raise ProgrammingError(
                "A transaction of the web role cannot go on as staff: enter the scope before it."
            )

    def _outermost_block(self) -> Atomic | None:
        for block in self.atomic_blocks:
            if not block._from_testcase:  # type: ignore[attr-defined]
                return block
        return None

    def _apply(self, wanted: Scope) -> None:
        # Unknown until it worked: an error here must not look like a scope in force.
        self._applied = None
        role = "none" if self._login is wanted.login else (wanted.login.value or "none")
        with self.wrap_database_errors, self.connection.cursor() as cursor:
            cursor.execute(
                _APPLY,
                [
                    role,
                    _text(wanted.organization),
                    _text(wanted.user),
                    wanted.key_lookup,
                    wanted.invitation,
                    wanted.provider,
                ],
            )
        self._applied = wanted

    def _transaction_status(self) -> TransactionStatus:
        return self.connection.info.transaction_status  # type: ignore[no-any-return]

    # Settings go back with what is rolled back, and what they were before is not known here.

    def _commit(self) -> Any:
        # After an error that somebody swallowed, COMMIT rolls back and says nothing of it.
        is_lost = (
            self.connection is not None and self._transaction_status() is TransactionStatus.INERROR
        )
        applied, self._applied = self._applied, None
        result = super()._commit()  # type: ignore[misc]
        if not is_lost:
            self._applied = applied
        return result

    def _rollback(self) -> Any:
        try:
            return super()._rollback()  # type: ignore[misc]
        finally:
            self._applied = None

    def _savepoint_rollback(self, sid: str) -> None:
        # Afterwards: its own cursor may tell the server a scope, which goes back as well.
        try:
            super()._savepoint_rollback(sid)  # type: ignore[misc]
        finally:
            self._applied = None


def _text(identifier: int | None) -> str:
    return "" if identifier is None else str(identifier)
