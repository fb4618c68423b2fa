"""PostgreSQL for the services that own tables: engine, transactions, outbox, inbox, migrations."""
