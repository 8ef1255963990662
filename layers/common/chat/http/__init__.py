"""What a client sees: routes, identity, problem documents, server-sent events."""
