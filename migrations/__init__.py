"""The database's schema, step by step, and what applies it. Steps only add: old and new code run side by side."""
