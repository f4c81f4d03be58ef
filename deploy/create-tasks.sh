#!/bin/sh
# A user and a database for task-api, when the server is first made.
set -eu
psql --username postgres --set ON_ERROR_STOP=1 --set "password=$(cat "$TASKS_PASSWORD_FILE")" <<'SQL'
CREATE USER tasks PASSWORD :'password';
CREATE DATABASE tasks OWNER tasks;
SQL
