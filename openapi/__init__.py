"""Makes docs/openapi.json from the code; used at development time only."""
