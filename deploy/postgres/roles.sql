-- The roles and the database of one installation. A DBA runs this once, and again after
-- an upgrade that asks for it: what is there already is kept and its passwords are set.
--
--   psql --no-psqlrc -f deploy/postgres/roles.sql "postgresql://admin@db.example/postgres"
--
-- The admin is a superuser, or has CREATEROLE and CREATEDB as managed databases give it.
-- The passwords come from variables of psql (-v web_password=...), or better from the
-- environment, which no list of processes shows: DATABASE_OWNER_PASSWORD,
-- DATABASE_WEB_PASSWORD, DATABASE_STAFF_PASSWORD. The containers of docker-compose.yml run
-- this file when their volume is fresh. PostgreSQL and psql 16 or later.
--
-- Why three roles: docs/adr/0014-isolation-in-two-layers.md.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?owner}
\else
  \set owner sluice
\endif
\if :{?database}
\else
  \set database sluice
\endif
\if :{?owner_password}
\else
  \getenv owner_password DATABASE_OWNER_PASSWORD
\endif
\if :{?web_password}
\else
  \getenv web_password DATABASE_WEB_PASSWORD
\endif
\if :{?staff_password}
\else
  \getenv staff_password DATABASE_STAFF_PASSWORD
\endif

-- Fails here, by name, when a password is given in neither way.
SELECT length(:'owner_password') > 0 AND length(:'web_password') > 0
    AND length(:'staff_password') > 0 AS are_given \gset
\if :are_given
\else
  DO $$ BEGIN RAISE EXCEPTION 'A password is empty.'; END $$;
\endif

SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY[:'owner', 'sluice_web', 'sluice_staff']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

-- What a new role is not (superuser, BYPASSRLS) is not said again: a managed database's
-- admin may not name those attributes. The last lines look whether it is so.
SET password_encryption = 'scram-sha-256';
ALTER ROLE :"owner" LOGIN PASSWORD :'owner_password';
ALTER ROLE sluice_web LOGIN NOCREATEDB NOCREATEROLE PASSWORD :'web_password';
ALTER ROLE sluice_staff LOGIN NOCREATEDB NOCREATEROLE PASSWORD :'staff_password';

-- The owner may become either (its commands do), staff may become the web, which sees less.
GRANT sluice_web, sluice_staff TO :"owner";
GRANT sluice_web TO sluice_staff;
SELECT format('GRANT %I TO CURRENT_USER', :'owner')
WHERE NOT pg_has_role(current_user, :'owner', 'SET') \gexec

-- A session's running statement, values included, shows to others of its role.
DO $$
BEGIN
    ALTER ROLE sluice_web SET track_activities = off;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'sluice_web keeps track_activities: its sessions see each other''s statements';
END
$$;

SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'owner')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec

\connect :"database"
\set ON_ERROR_STOP on
-- A database from before PostgreSQL 15 lets everybody make tables in it.
SELECT 'REVOKE CREATE ON SCHEMA public FROM PUBLIC'
WHERE has_schema_privilege('sluice_web', 'public', 'CREATE') \gexec

DO $$
DECLARE
    wrong text;
BEGIN
    SELECT string_agg(rolname, ', ') INTO wrong FROM pg_roles
        WHERE rolname IN ('sluice_web', 'sluice_staff')
        AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication);
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'may do too much: %', wrong;
    END IF;
    SELECT string_agg(granted.rolname, ', ') INTO wrong FROM pg_roles AS granted
        WHERE rolname <> 'sluice_web' AND pg_has_role('sluice_web', granted.oid, 'MEMBER');
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'sluice_web may become %', wrong;
    END IF;
    IF has_schema_privilege('sluice_web', 'public', 'CREATE') THEN
        RAISE EXCEPTION 'sluice_web may make tables in the schema public';
    END IF;
END
$$;
