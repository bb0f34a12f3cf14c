//! Relational state on SQLite or PostgreSQL: patients, devices, settings, rules, episodes, users, audit.
