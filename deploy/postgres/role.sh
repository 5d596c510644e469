#!/bin/bash
# Run once, when the database is made: a role for the service that owns its database and no more. The superuser then
# has no password: it logs in from inside the container alone (docker compose exec postgres psql --username=postgres).
set -euo pipefail
psql --set=ON_ERROR_STOP=1 --no-psqlrc --username="$POSTGRES_USER" --dbname=postgres <<'SQL'
\getenv password POSTGRES_PASSWORD
CREATE ROLE spikehead LOGIN PASSWORD :'password';
CREATE DATABASE spikehead OWNER spikehead;
ALTER ROLE CURRENT_USER PASSWORD NULL;
SQL
