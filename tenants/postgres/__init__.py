"""Django's PostgreSQL backend, which tells the database on whose behalf it acts."""
